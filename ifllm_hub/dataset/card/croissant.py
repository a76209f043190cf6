"""croissant.json: a machine-readable description of the folder in Croissant 1.1 with the RAI vocabulary."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from ifllm_hub.dataset.manifest import Built
from ifllm_hub.dataset.schema import SPLITS, Column, columns, row_is

_PARQUET = "application/x-parquet"
_ENCODINGS = {".parquet": _PARQUET, ".json": "application/json", ".csv": "text/csv"}
_DOCUMENTS = {
    "contents.json": "Rows of each split and types of each column, by config.",
    "manifest.json": "What became of the lines of every file of the release, in counts.",
    "privacy_report.json": "k-anonymity and re-identification of what is released here.",
    "quarantine.csv": "File, line and reason of each line that could not be parsed.",
}
_AUTHORS = ("Haw-Shiuan Chang", "Jeffrey Gomez", "Mehul Patwari", "Aryan Sajith", "Hamed Zamani")
_CROISSANT_TERMS = (
    "annotation",
    "arrayShape",
    "citeAs",
    "column",
    "containedIn",
    "equivalentProperty",
    "excludes",
    "extract",
    "field",
    "fileObject",
    "fileProperty",
    "fileSet",
    "format",
    "includes",
    "isArray",
    "isLiveDataset",
    "jsonPath",
    "key",
    "md5",
    "parentField",
    "path",
    "readLines",
    "recordSet",
    "references",
    "regex",
    "repeated",
    "replace",
    "samplingRate",
    "sdVersion",
    "separator",
    "source",
    "subField",
    "transform",
    "unArchive",
    "value",
)
# The context that the specification recommends (its appendix 1), with the terms of 1.0 that readers still expect.
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    **{term: f"cr:{term}" for term in _CROISSANT_TERMS},
}


def croissant(
    folder: Path,
    configs: list[str],
    manifest: Built,
    facts: dict[str, Any],
    data: dict[str, Any],
    citation: str,
    url: str | None,
) -> str:
    """The text of `croissant.json` for a dataset folder. Paths in it are relative to the folder.

    Args:
        configs: those that the folder holds.
        facts: `dataset_card/facts.yaml.jinja`, rendered.
        data: what the card says about the rows.
        citation: BibTeX.
        url: of the repo on the Hub; by default that of the paper.

    Raises:
        OSError: a file of the folder cannot be read.
    """
    from ifllm_hub import __version__

    released = manifest["is_the_released_data"]
    tables = sorted(path for config in configs for path in (folder / "data" / config).glob("*.parquet"))
    documents = [folder / name for name in _DOCUMENTS if (folder / name).is_file()]
    description = facts["summary"] if released else f"Not the study's data: simulated or modified. {facts['summary']}"
    dataset = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": "ifllm",
        "description": description,
        "url": url or "https://arxiv.org/abs/2606.20482",
        "license": "https://www.apache.org/licenses/LICENSE-2.0",
        "creator": [{"@type": "sc:Person", "name": name} for name in _AUTHORS],
        "datePublished": "2026-06",
        "version": __version__,
        "inLanguage": "en",
        "keywords": ["implicit feedback", "preference", "mouse tracking", "eye tracking", "LLM", "reward model"],
        "citeAs": citation.strip(),
        "isLiveDataset": False,
        **_responsible(facts, data, manifest),
        "distribution": [
            *(_file(folder, path, _DOCUMENTS.get(path.name, "")) for path in [*documents, *tables]),
            *(_file_set(config) for config in configs),
        ],
        "recordSet": [_splits(), *(_record_set(config) for config in configs)],
    }
    return json.dumps(dataset, indent=1, ensure_ascii=False) + "\n"


def _responsible(facts: dict[str, Any], data: dict[str, Any], manifest: Built) -> dict[str, Any]:
    counts = manifest["questions"]["all"]
    days = [day for day in (data["first"], data["last"]) if day]
    return {
        "rai:dataCollection": " ".join(facts["collection"]),
        "rai:dataCollectionType": ["Experiments", "Direct measurement", "Self-reporting", "Software Collection"],
        "rai:dataCollectionMissingData": "Null where not recorded or not rated. " + facts["limitations"][0],
        "rai:dataCollectionRawData": "https://github.com/themehulpatwari/llm-implicit-feedback at 923bac0; content "
        f"sha256 {manifest['release_sha256']}",
        **({"rai:dataCollectionTimeframe": days} if days else {}),
        "rai:dataImputationProtocol": "Nothing is imputed.",
        "rai:dataManipulationProtocol": facts["manipulation"],
        "rai:dataPreprocessingProtocol": facts["preprocessing"],
        "rai:dataAnnotationProtocol": facts["collection"][2],
        "rai:dataAnnotationPlatform": ["Amazon Mechanical Turk; the study's own web site"],
        "rai:dataAnnotationAnalysis": ["Each question was rated by the person who asked it; agreement is not defined."],
        "rai:annotationsPerItem": "1",
        "rai:annotatorDemographics": [f"{counts['workers']} workers of Mechanical Turk. {facts['demographics']}"],
        "rai:machineAnnotationTools": ["WebGazer (gaze estimates); ifllm_hub (char indices, features)"],
        "rai:dataUseCases": facts["uses"],
        "rai:dataBiases": facts["biases"],
        "rai:dataLimitations": [*facts["limitations"], *(f"Out of scope: {use}" for use in facts["out_of_scope"])],
        "rai:dataSocialImpact": facts["impact"],
        "rai:personalSensitiveInformation": [
            *facts["sensitive"],
            f"Not included: {facts['not_included']}",
            facts["demographics"],
        ],
        "rai:dataReleaseMaintenancePlan": f"{facts['versions']} {facts['withdrawal']}",
    }


def _file(folder: Path, path: Path, description: str) -> dict[str, Any]:
    name = path.relative_to(folder).as_posix()
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": path.name,
        **({"description": description} if description else {}),
        "contentUrl": name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _ENCODINGS[path.suffix],
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }


def _file_set(config: str) -> dict[str, Any]:
    # No `containedIn`: with it, mlcroissant 1.1 finds no columns. `includes` is relative to this document's folder.
    return {
        "@type": "cr:FileSet",
        "@id": f"{config}-files",
        "name": f"{config}-files",
        "description": f"Parquet files of the config '{config}', one per split.",
        "encodingFormat": _PARQUET,
        "includes": f"data/{config}/*.parquet",
    }


def _splits() -> dict[str, Any]:
    field = {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "No worker is in both.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [field],
        "data": [{"splits/name": split} for split in SPLITS],
    }


def _record_set(config: str) -> dict[str, Any]:
    source = {"fileSet": {"@id": f"{config}-files"}}
    split = {
        "@type": "cr:Field",
        "@id": f"{config}/split",
        "name": "split",
        "description": "train or test",
        "dataType": "sc:Text",
        # mlcroissant applies it to both sides of the reference, so it must match a split's name too.
        "source": {
            **source,
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": r"^(train|test)(?:-.*)?$"},
        },
        "references": {"field": {"@id": "splits/name"}},
    }
    return {
        "@type": "cr:RecordSet",
        "@id": config,
        "name": config,
        "description": f"A record is {row_is(config)}. All configs join on question_id.",
        "key": [{"@id": f"{config}/question_id"}],
        "field": [split, *(_field(config, column, source) for column in columns(config))],
    }


def _field(config: str, column: Column, source: dict[str, Any]) -> dict[str, Any]:
    """Unit and range are given in the description, and as schema.org's `unitText`, `minValue` and `maxValue`."""
    said = [
        column.meaning,
        *(f"{word}: {text}" for word, text in (("unit", column.unit), ("range", column.range)) if text),
    ]
    name = f"{config}/{column.name}"
    extract = {**source, "extract": {"column": column.name}}
    field: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": name,
        "name": column.name,
        "description": "; ".join(said),
        **({"unitText": column.unit} if column.unit else {}),
        **({} if column.low is None else {"minValue": column.low}),
        **({} if column.high is None else {"maxValue": column.high}),
    }
    if pa.types.is_list(column.type):
        field |= {"isArray": True, "arrayShape": "-1"}
    if not pa.types.is_struct(column.entry):
        return field | {"dataType": _data_type(column.entry), "source": extract}
    parts = [
        {
            "@type": "cr:Field",
            "@id": f"{name}/{part.name}",
            "name": part.name,
            "dataType": _data_type(part.type),
            "source": {**extract, "transform": {"jsonPath": part.name}},
        }
        for part in column.entry
    ]
    return field | {"subField": parts}


def _data_type(type_: pa.DataType) -> str:
    if pa.types.is_timestamp(type_):
        return "sc:DateTime"
    names = {pa.string(): "sc:Text", pa.bool_(): "sc:Boolean", pa.float32(): "cr:Float32", pa.float64(): "cr:Float64"}
    return names.get(type_) or f"cr:Int{type_.bit_width}"
