"""The dataset card: templates plus what is in the folder -> README.md, datasheet.md, croissant.json and figures.

Nothing in them is typed by hand: numbers come from the manifest and the Parquet files, columns from `schema.py`.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from ifllm_hub.dataset.croissant import croissant
from ifllm_hub.dataset.figures import draw_figures
from ifllm_hub.dataset.load import footer, load_config
from ifllm_hub.dataset.schema import (
    DEFAULT_CONFIG,
    PREFIX,
    SPLITS,
    Column,
    columns,
    features,
    label_source_of,
    parquet_path,
    present_configs,
    row_is,
)
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.locate import shipped_folder

if TYPE_CHECKING:
    from jinja2 import Environment

# Stands for the Hub repo until it has a name.
PLACEHOLDER = "ORG/ifllm"

_HEAD = {
    "pretty_name": "IFLLM: implicit feedback on LLM answers",
    "language": ["en"],
    "license": "apache-2.0",
    "annotations_creators": ["crowdsourced"],
    "language_creators": ["crowdsourced", "machine-generated"],
    "multilinguality": ["monolingual"],
    "source_datasets": ["original"],
    "task_categories": ["text-generation", "tabular-classification"],
    "tags": [
        "preference",
        "implicit-feedback",
        "human-feedback",
        "multi-turn",
        "mouse-tracking",
        "eye-tracking",
        "dpo",
        "reward-model",
        "arxiv:2606.20482",
    ],
}
# A collector's data is not the study's: neither its licence nor its annotators are known here.
_COLLECTED_HEAD = {
    "pretty_name": "Collected implicit feedback on LLM answers",
    "license": "other",
    "annotations_creators": ["found"],
    "language_creators": ["found", "machine-generated"],
}


def write_card(folder: Path, repo_id: str = PLACEHOLDER) -> None:
    """Write the card of a dataset folder from its manifest, privacy report and Parquet files; again when they change.

    Writes README.md, datasheet.md, croissant.json and figures/*.png, the same bytes for the same folder.

    Args:
        repo_id: where it is published (owner/name), for the code on the card.

    Raises:
        IfllmError: the manifest is missing, or the folder cannot be written.
    """
    manifest = read_json(folder / "manifest.json")
    if "collected" in manifest:
        _write_collected_card(folder, manifest, repo_id)
        return
    infos = [info for config in present_configs(folder) if (info := _dataset_info(folder, config))]
    present = [info["config_name"] for info in infos]
    questions = _questions(folder)
    said = {
        "manifest": manifest,
        "tier": manifest["tier"],
        "withdrawn": manifest["withdrawn"]["workers"],
        "privacy": read_json(folder / "privacy_report.json"),
        "data": _observed(questions),
        "sizes": _sizes(infos),
        "row_is": {config: row_is(config) for config in present},
        "repo_id": repo_id,
        "placeholder": PLACEHOLDER,
    }
    said["facts"] = facts = yaml.safe_load(_template("facts.yaml.jinja").render(said))
    figures = draw_figures(folder, questions, load_config(folder, "features").drop("worker_id"))
    head = yaml.safe_dump(_head(infos, said["tier"]), sort_keys=False, allow_unicode=True, width=120)
    body = _template("README.md.jinja").render(
        said, figures=figures, columns=_column_tables(present), carets=_carets(manifest["carets"])
    )
    write_atomically(folder / "README.md", f"---\n{head}---\n\n{body}")
    write_atomically(folder / "datasheet.md", _template("datasheet.md.jinja").render(said))
    citation = (shipped_folder("dataset_card") / "citation.bib").read_text(encoding="utf-8")
    url = None if repo_id == PLACEHOLDER else f"https://huggingface.co/datasets/{repo_id}"
    write_atomically(folder / "croissant.json", croissant(folder, present, manifest, facts, citation, url))


def _write_collected_card(folder: Path, manifest: dict[str, Any], repo_id: str) -> None:
    """README.md of a folder that a collector exported: the study's facts are none of this data's."""
    infos = [info for config in present_configs(folder) if (info := _dataset_info(folder, config))]
    present = [info["config_name"] for info in infos]
    head = {**_head(infos, manifest["tier"]), **_COLLECTED_HEAD}
    body = _template("collected.md.jinja").render(
        manifest=manifest,
        sizes=_sizes(infos),
        row_is={config: row_is(config) for config in present},
        repo_id=repo_id,
        columns=_column_tables(present),
    )
    written = yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=120)
    write_atomically(folder / "README.md", f"---\n{written}---\n\n{body}")


def _column_tables(configs: list[str]) -> dict[str, tuple[Column, ...]]:
    """The columns of each config; those of all preferences, which are the same, once."""
    return {PREFIX + "*" if label_source_of(config) else config: columns(config) for config in configs}


def _sizes(infos: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Rows of each config's splits."""
    return {info["config_name"]: {split["name"]: split["num_examples"] for split in info["splits"]} for info in infos}


def _head(infos: list[dict[str, Any]], tier: str) -> dict[str, Any]:
    """The YAML header; only the `full` tier asks for consent to its terms."""
    gate = (shipped_folder("dataset_card") / "gate.yaml").read_text(encoding="utf-8") if tier == "full" else "{}"
    return {
        **_HEAD,
        "size_categories": [_size_category(sum(split["num_examples"] for info in infos for split in info["splits"]))],
        **yaml.safe_load(gate),
        "configs": [
            {
                "config_name": info["config_name"],
                **({"default": True} if info["config_name"] == DEFAULT_CONFIG else {}),
                "data_files": [
                    {"split": split["name"], "path": f"data/{info['config_name']}/{split['name']}-*.parquet"}
                    for split in info["splits"]
                ],
            }
            for info in infos
        ],
        "dataset_info": infos,
    }


def _size_category(rows: int) -> str:
    """The Hub's category for a number of rows."""
    names = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M")
    return next((name for power, name in enumerate(names, start=3) if rows < 10**power), "n>100M")


def _dataset_info(folder: Path, config: str) -> dict[str, Any] | None:
    """None where the config is empty. An empty split is not declared: `load_dataset` would refuse the config."""
    files = {split: parquet_path(folder, config, split) for split in SPLITS}
    splits = []
    for split, path in files.items():
        metadata = footer(path, config)
        size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
        if metadata.num_rows:
            splits.append({"name": split, "num_bytes": size, "num_examples": metadata.num_rows})
    if not splits:
        return None
    return {
        "config_name": config,
        "features": features(config)._to_yaml_list(),
        "splits": splits,
        "download_size": sum(files[split["name"]].stat().st_size for split in splits),
        "dataset_size": sum(split["num_bytes"] for split in splits),
    }


def _questions(folder: Path) -> pl.DataFrame:
    """One row a question of both kinds, without the messages."""
    single = {"response": "response_left", "model": "model_left"}
    parts = [load_config(folder, "pairwise"), load_config(folder, "pointwise").rename(single)]
    wanted = "^(question_id|worker_id|split|asked_at|preference|(response|model)_(left|right))$"
    return pl.concat([part.select(wanted) for part in parts], how="diagonal")


def _observed(questions: pl.DataFrame) -> dict[str, Any]:
    """What the card says about the rows: dates, LLMs, rated pairs and how often the longer answer won."""
    models = pl.concat([questions["model_left"], questions["model_right"].drop_nulls()]).value_counts()
    left, right = (pl.col(f"response_{side}").str.len_chars() for side in ("left", "right"))
    rated = questions.filter(pl.col("preference").is_not_null() & (left != right))
    longer = rated.select((left > right) == (pl.col("preference") == "left")).to_series().mean()
    days = questions["asked_at"].drop_nulls().dt.strftime("%Y-%m-%d").sort()
    return {
        "first": days.first(),
        "last": days.last(),
        "models": dict(models.sort("count", "model_left", descending=[True, False]).iter_rows()),
        "rated_pairs": rated.height,
        "longer_preferred": longer,
    }


def _carets(carets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per schema version, and of all: recorded carets, and the share that matched, was repaired, or was taken off."""
    versions: dict[str, dict[str, int]] = {}
    for row in sorted(carets, key=lambda row: row["schema_version"]):
        for version in (row["schema_version"], "all"):
            fates = versions.setdefault(version, {})
            fates[row["fate"]] = fates.get(row["fate"], 0) + row["ticks"]
    versions["all"] = versions.pop("all", {})
    return [
        {
            "version": version,
            "carets": (total := sum(fates.values())),
            "share": {fate: n / total for fate, n in fates.items()},
        }
        for version, fates in versions.items()
    ]


def _template(name: str) -> Any:
    return _environment().get_template(name)


@cache
def _environment() -> "Environment":
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped_folder("dataset_card")),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown, and nothing of it comes from outside the folder
    )
