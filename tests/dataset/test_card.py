"""The card says what is in the folder: its YAML is what `datasets` reads, its numbers are those of the files."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard

from ifllm_hub.dataset.builder import replace_config
from ifllm_hub.dataset.card import write_card
from ifllm_hub.dataset.schema import CONFIGS, SPLITS
from ifllm_hub.errors import IfllmError

BUILT = ["pairwise", "pointwise", "trajectories", "features"]


def split_card(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


def parquet(folder: Path, config: str, split: str) -> Path:
    return folder / f"data/{config}/{split}-00000-of-00001.parquet"


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset, tmp_path / "copy")


def preferences(source: Path, n: int) -> pl.DataFrame:
    pairs = pl.read_parquet(parquet(source, "pairwise", "train")).head(n)
    chat = [{"role": "assistant", "content": "x"}]
    return pairs.select(
        "question_id",
        "worker_id",
        label_source=pl.lit("forest"),
        prompt="messages_left",
        chosen=pl.lit(chat, dtype=pairs.schema["messages_left"]),
        rejected=pl.lit(chat, dtype=pairs.schema["messages_left"]),
        flip_prob=pl.lit(0.25),
        rating_chosen="rating_left",
        rating_rejected="rating_right",
        split=pl.lit("train"),
    )


def test_configs_and_their_sizes_are_those_of_the_files(dataset: Path) -> None:
    head, _ = split_card(dataset)
    assert [config["config_name"] for config in head["configs"]] == BUILT
    assert [config["config_name"] for config in head["configs"] if config.get("default")] == ["pairwise"]
    for config, info in zip(head["configs"], head["dataset_info"], strict=True):
        name = config["config_name"]
        assert info["config_name"] == name
        for files in config["data_files"]:
            assert list(dataset.glob(files["path"])) == [parquet(dataset, name, files["split"])]
        sizes = []
        for declared in info["splits"]:
            metadata = pq.read_metadata(parquet(dataset, name, declared["name"]))
            assert declared["num_examples"] == metadata.num_rows
            groups = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
            assert declared["num_bytes"] == sum(groups) > 0
            sizes.append(parquet(dataset, name, declared["name"]).stat().st_size)
        assert [declared["name"] for declared in info["splits"]] == list(SPLITS)
        assert info["download_size"] == sum(sizes)
        assert info["dataset_size"] == sum(declared["num_bytes"] for declared in info["splits"])
        assert [feature["name"] for feature in info["features"]] == [column.name for column in CONFIGS[name]]


def test_the_hub_can_read_the_card(dataset: Path) -> None:
    card = DatasetCard.load(dataset / "README.md")
    assert card.data.license == "apache-2.0"
    assert card.data.language == ["en"]
    assert "arxiv:2606.20482" in card.data.tags


def table(body: str, first_cell: str) -> list[list[str]]:
    """The Markdown table whose head starts with a cell, without head and rule."""
    start = body.index(f"| {first_cell} |")
    lines = body[start:].split("\n\n")[0].strip().split("\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert {len(row) for row in rows} == {len(rows[0])}
    return rows[2:]


def number(text: str) -> int:
    return int(text.replace(",", ""))


def test_the_tables_of_the_body_agree_with_files_and_manifest(dataset: Path) -> None:
    _, body = split_card(dataset)
    manifest = json.loads((dataset / "manifest.json").read_text())
    for name, train, test, _ in table(body, "config"):
        rows = [pq.read_metadata(parquet(dataset, name.strip("`"), split)).num_rows for split in SPLITS]
        assert [number(train), number(test)] == rows
    for kind, *counts in table(body, "files"):
        expected = manifest["lines"][re.search("abs|rel", kind)[0]]
        assert [number(count) for count in counts] == [
            expected[name] for name in ("lines", "ticks", "duplicates", "quarantined", "unaccounted")
        ]
    versions = table(body, "schema")
    assert [row[0] for row in versions] == ["v1", "v2", "v3"]
    for version, carets, *shares in versions:
        rows = [row for row in manifest["carets"] if row["schema_version"] == version]
        assert number(carets) == sum(row["ticks"] for row in rows)
        for fate, share in zip(("matched", "repaired", "ambiguous", "elsewhere"), shares, strict=True):
            of_fate = sum(row["ticks"] for row in rows if row["fate"] == fate)
            assert float(share.rstrip("%")) == pytest.approx(100 * of_fate / number(carets), abs=0.0051)
    counted = manifest["questions"]["all"]
    assert f"{counted['questions']} questions of {counted['workers']} workers" in body


def test_every_column_is_listed_with_its_unit(dataset: Path) -> None:
    _, body = split_card(dataset)
    for config in BUILT:
        section = body.split(f"### `{config}`\n")[1]
        listed = [(name.strip("`"), unit) for name, _, unit, _ in table(section, "column")]
        assert listed == [(column.name, column.unit) for column in CONFIGS[config]]


def test_simulated_data_is_not_passed_off_as_the_study(dataset: Path, copy: Path) -> None:
    assert "> **Not the study's data.**" in split_card(dataset)[1]
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"is_the_released_data": True}))
    write_card(copy)
    assert "Not the study's data" not in split_card(copy)[1]


def test_a_config_that_is_added_appears_on_the_card(copy: Path) -> None:
    replace_config(copy, "preferences", preferences(copy, 9))
    head, body = split_card(copy)
    info = head["dataset_info"][-1]
    assert info["config_name"] == "preferences"
    # An empty split is not declared: load_dataset would refuse the whole config.
    assert [(declared["name"], declared["num_examples"]) for declared in info["splits"]] == [("train", 9)]
    assert [files["split"] for files in head["configs"][-1]["data_files"]] == ["train"]
    assert ["`preferences`", "9", "0", "a preference pair of one label source"] in table(body, "config")
    replace_config(copy, "preferences", preferences(copy, 0))
    assert [config["config_name"] for config in split_card(copy)[0]["configs"]] == BUILT


def test_the_card_is_the_same_when_nothing_changed(copy: Path) -> None:
    before = (copy / "README.md").read_bytes()
    write_card(copy)
    assert (copy / "README.md").read_bytes() == before


def test_a_folder_without_a_manifest_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"manifest\.json: missing or damaged"):
        write_card(tmp_path)
    assert list(tmp_path.iterdir()) == []
