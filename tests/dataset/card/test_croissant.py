"""croissant.json is valid Croissant 1.1 by mlcroissant, describes the schema, and its records are the rows."""

import hashlib
import itertools
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.schema import CONFIGS, SPLITS
from ifllm_hub.dataset.writers import replace_configs
from tests.dataset.card.cards import preferences

BUILT = ["pairwise", "pointwise", "trajectories", "features"]
DTYPES = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "timestamp[ms, tz=UTC]": "sc:DateTime",
    "int8": "cr:Int8",
    "int16": "cr:Int16",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
    "float32": "cr:Float32",
    "float64": "cr:Float64",
}
# https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html
RAI = {
    "dataCollection",
    "dataCollectionType",
    "dataCollectionMissingData",
    "dataCollectionRawData",
    "dataCollectionTimeframe",
    "dataImputationProtocol",
    "dataManipulationProtocol",
    "dataPreprocessingProtocol",
    "dataAnnotationProtocol",
    "dataAnnotationPlatform",
    "dataAnnotationAnalysis",
    "dataReleaseMaintenancePlan",
    "personalSensitiveInformation",
    "dataSocialImpact",
    "dataBiases",
    "dataLimitations",
    "dataUseCases",
    "annotationsPerItem",
    "annotatorDemographics",
    "machineAnnotationTools",
}

pytestmark = [
    # Both are in mlcroissant 1.1.1 itself: it reads JSON-LD with rdflib's old graph, and Parquet with `inplace`.
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index:Warning"),
]


@pytest.fixture(scope="module")
def described(dataset: Path) -> dict[str, Any]:
    return json.loads((dataset / "croissant.json").read_text())


def open_croissant(folder: Path) -> mlcroissant.Dataset:
    return mlcroissant.Dataset(str(folder / "croissant.json"))


def assert_valid(folder: Path, caplog: pytest.LogCaptureFixture) -> mlcroissant.Dataset:
    with caplog.at_level(logging.WARNING):
        opened = open_croissant(folder)
    context = opened.metadata.ctx
    assert context.issues.report() == ""
    assert context.is_v1_1()
    assert caplog.records == []  # such as: the context is not standard
    return opened


def test_mlcroissant_finds_nothing_to_complain_of(dataset: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = assert_valid(dataset, caplog).metadata
    assert [record_set.uuid for record_set in metadata.record_sets] == ["splits", *BUILT]
    assert metadata.cite_as.startswith("@misc{")
    assert metadata.data_biases
    assert metadata.personal_sensitive_information
    again = mlcroissant.Dataset.from_metadata(metadata).metadata.to_json()
    assert again["recordSet"] == mlcroissant.Dataset(again).metadata.to_json()["recordSet"]


def test_every_config_that_may_be_there_is_valid(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    shutil.rmtree(copy / "data/trajectories")
    replace_configs(copy, {"preferences_forest": preferences(copy, 3)})
    opened = assert_valid(copy, caplog)
    assert [record_set.uuid for record_set in opened.metadata.record_sets] == [
        "splits",
        "pairwise",
        "pointwise",
        "features",
        "preferences_forest",
    ]
    rows = list(opened.records("preferences_forest"))
    assert [row["preferences_forest/flip_prob"] for row in rows] == [0.25] * 3


def test_files_are_listed_with_their_hashes(dataset: Path, described: dict[str, Any]) -> None:
    files = [entry for entry in described["distribution"] if entry["@type"] == "cr:FileObject"]
    for entry in files:
        data = (dataset / entry["contentUrl"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(data).hexdigest()
        assert entry["contentSize"] == f"{len(data)} B"
    listed = {entry["contentUrl"] for entry in files}
    assert listed == {"contents.json", "manifest.json", "quarantine.csv", "privacy_report.json"} | {
        path.relative_to(dataset).as_posix() for path in dataset.rglob("*.parquet")
    }
    sets = [entry for entry in described["distribution"] if entry["@type"] == "cr:FileSet"]
    matched = [
        path.relative_to(dataset).as_posix() for entry in sets for path in sorted(dataset.glob(entry["includes"]))
    ]
    assert sorted(matched) == sorted(name for name in listed if name.endswith(".parquet"))


def test_every_field_is_the_column_of_the_schema(described: dict[str, Any]) -> None:
    record_sets = {entry["@id"]: entry for entry in described["recordSet"]}
    for config in BUILT:
        split, *fields = record_sets[config]["field"]
        assert split["name"] == "split"
        assert [field["name"] for field in fields] == [column.name for column in CONFIGS[config]]
        for field, column in zip(fields, CONFIGS[config], strict=True):
            assert field.get("isArray", False) == pa.types.is_list(column.type)
            assert column.meaning in field["description"]
            assert column.unit in field["description"]
            assert column.range in field["description"]
            assert (field.get("unitText", ""), field.get("minValue"), field.get("maxValue")) == (
                column.unit,
                column.low,
                column.high,
            )
            inner = column.type_name.removeprefix("list[").removesuffix("]") if "isArray" in field else column.type_name
            if "subField" in field:
                parts = [f"{part['name']}: {part['dataType'].removeprefix('sc:')}" for part in field["subField"]]
                assert inner == "{" + ", ".join(parts).replace("Text", "string") + "}"
            else:
                assert field["dataType"] == DTYPES[inner]


def test_it_says_what_a_responsible_user_must_know(described: dict[str, Any]) -> None:
    rai = {key.removeprefix("rai:"): value for key, value in described.items() if key.startswith("rai:")}
    assert rai.keys() <= RAI
    assert len(rai) >= 15
    assert all(rai.values())
    assert "one join away" in " ".join(rai["annotatorDemographics"])
    assert rai["dataCollectionTimeframe"] == sorted(rai["dataCollectionTimeframe"])
    assert described["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    assert "follow the text with the cursor" in rai["dataBiases"][0]
    assert described["description"].startswith("Not the study's data")
    for required in ("name", "url", "license", "creator", "datePublished", "description"):
        assert described[required]


def plain(value: Any) -> Any:
    """What mlcroissant hands out -> what pyarrow does."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, np.ndarray)):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key.rpartition("/")[2]: plain(entry) for key, entry in value.items()}
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and np.isnan(value) else value


@pytest.mark.parametrize(
    ("config", "rows"),
    [
        ("pairwise", None),
        ("pointwise", None),
        ("trajectories", 2),
        pytest.param("features", 9, marks=pytest.mark.slow),
    ],
)
def test_records_are_the_rows(dataset: Path, config: str, rows: int | None) -> None:
    opened = open_croissant(dataset)
    records = [plain(record) for record in itertools.islice(opened.records(config), rows)]
    tables = [
        [{"split": split, **row} for row in pq.read_table(path).to_pylist()]
        for split in SPLITS
        for path in (dataset / "data" / config).glob(f"{split}-*.parquet")
    ]
    expected = {(row["split"], row["question_id"]): row for table in tables for row in table}
    for record in records:
        assert record == expected[record["split"], record["question_id"]]
    assert len(records) == (rows or len(expected))


def test_one_split_can_be_asked_for(dataset: Path) -> None:
    records = list(open_croissant(dataset).records("pairwise", filters={"pairwise/split": "train"}))
    assert {record["pairwise/split"] for record in records} == {b"train"}
    ids = pq.read_table(dataset / "data/pairwise/train-00000-of-00001.parquet")["question_id"].to_pylist()
    assert [record["pairwise/question_id"] for record in records] == ids


def test_the_hub_address_is_its_url(dataset: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    write_card(copy, "lab/reading")
    described = json.loads((copy / "croissant.json").read_text())
    assert described["url"] == "https://huggingface.co/datasets/lab/reading"
