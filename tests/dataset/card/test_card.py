"""The card says what is in the folder: its YAML is what `datasets` reads, its numbers are those of the files."""

import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from datasets.utils.metadata import MetadataConfigs
from huggingface_hub import DatasetCard
from PIL import Image

from ifllm_hub.dataset.card.definitions import CONSTANTS, feature_rows
from ifllm_hub.dataset.card.pages import _size_category, write_card
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import CONFIGS, SPLITS, features, row_is
from ifllm_hub.dataset.writers import replace_configs
from ifllm_hub.errors import IfllmError
from tests.dataset.card.cards import parquet, preferences, split_card

BUILT = ["pairwise", "pointwise", "trajectories", "features"]


def test_configs_and_their_sizes_are_those_of_the_files(dataset: Path) -> None:
    head, _ = split_card(dataset)
    assert [config["config_name"] for config in head["configs"]] == BUILT
    assert [config["config_name"] for config in head["configs"] if config.get("default")] == ["pairwise"]
    contents = json.loads((dataset / "contents.json").read_text())
    assert list(contents) == BUILT
    for config in head["configs"]:
        name = config["config_name"]
        assert [files["split"] for files in config["data_files"]] == list(contents[name]["rows"]) == list(SPLITS)
        for files in config["data_files"]:
            assert list(dataset.glob(files["path"])) == [parquet(dataset, name, files["split"])]
            rows = pq.read_metadata(parquet(dataset, name, files["split"])).num_rows
            assert contents[name]["rows"][files["split"]] == rows > 0
        assert contents[name]["columns"] == {column.name: column.type_name for column in CONFIGS[name]}


def test_the_types_are_read_from_the_files(dataset: Path) -> None:
    for name in BUILT:
        streamed = load_dataset(str(dataset), name, split="train", streaming=True)
        assert streamed.features == load_dataset(str(dataset), name, split="train").features == features(name)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_can_be_filtered_while_they_load(dataset: Path, streaming: bool) -> None:
    """A number of rows in the card's YAML would be the number that must come, also out of a filter."""
    pairs = pl.read_parquet(parquet(dataset, "pairwise", "train"))
    ids = pairs.filter(preference="left")["question_id"].to_list()
    filters = [("preference", "==", "left")]
    loaded = load_dataset(str(dataset), "pairwise", split="train", filters=filters, streaming=streaming)
    assert [row["question_id"] for row in loaded] == ids
    assert 0 < len(ids) < pairs.height


def test_the_hub_can_read_the_card(dataset: Path) -> None:
    card = DatasetCard.load(dataset / "README.md", ignore_metadata_errors=False)
    assert card.data.license == "apache-2.0"
    assert card.data.language == ["en"]
    assert "arxiv:2606.20482" in card.data.tags
    assert "https://arxiv.org/abs/2606.20482" in card.text
    assert card.data.size_categories == ["n<1K"]
    # The values that the Hub lists for these keys.
    assert set(card.data.annotations_creators) <= {"crowdsourced", "found", "expert-generated", "machine-generated"}
    assert set(card.data.source_datasets) <= {"original", "extended"}
    assert set(card.data.task_categories) == {"text-generation", "tabular-classification"}
    assert "dataset_info" not in card.data
    configs = MetadataConfigs.from_dataset_card_data(card.data)
    assert list(configs) == BUILT
    assert configs.get_default_config_name() == "pairwise"


@pytest.mark.parametrize(
    ("rows", "category"), [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**8, "n>100M")]
)
def test_the_size_category_follows_the_rows(rows: int, category: str) -> None:
    assert _size_category(rows) == category


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
    sheet = (dataset / "datasheet.md").read_text(encoding="utf-8")
    for kind, *counts in table(sheet, "files"):
        expected = manifest["lines"][re.search("abs|rel", kind)[0]]
        assert [number(count) for count in counts] == [
            expected[name] for name in ("lines", "ticks", "duplicates", "quarantined", "unaccounted")
        ]
    versions = table(sheet, "schema")
    assert [row[0] for row in versions] == ["v1", "v2", "v3", "all"]
    for version, carets, *shares in versions:
        rows = [row for row in manifest["carets"] if version in (row["schema_version"], "all")]
        assert number(carets) == sum(row["ticks"] for row in rows)
        for status, share in zip(("matched", "repaired", "ambiguous", "elsewhere"), shares, strict=True):
            of_fate = sum(row["ticks"] for row in rows if row["status"] == status)
            assert float(share.rstrip("%")) == pytest.approx(100 * of_fate / number(carets), abs=0.0051)
    counted = manifest["questions"]["all"]
    assert f"{counted['questions']} questions of {counted['workers']} workers" in body


def test_every_column_is_listed_with_type_unit_range_nulls_and_meaning(dataset: Path) -> None:
    _, body = split_card(dataset)
    for config in BUILT[:-1]:
        listed = table(body.split(f"### `{config}`\n")[1], "column")
        expected = [[f"`{c.name}`", c.type_name, c.unit, c.range, c.meaning] for c in CONFIGS[config]]
        assert [[*row[:4], row[5]] for row in listed] == expected
        frame = load_config(dataset, config)
        for name, *_, nulls, _ in listed:
            values = frame[name.strip("`")]
            if isinstance(values.dtype, pl.List):
                values = values.explode(empty_as_null=True)
            share = {"": 0.0, "all": 1.0}.get(nulls) if not nulls.endswith("%") else float(nulls.rstrip("%")) / 100
            assert share == pytest.approx(values.is_null().mean(), abs=0.00051), name
            assert (nulls == "") == (values.null_count() == 0)


def expanded(names: str) -> list[str]:
    """As a shell does: a{b,c}d -> abd acd."""
    parts = [part.split(",") for part in re.split(r"[{}]", names)]
    return ["".join(words) for words in itertools.product(*parts)]


def test_every_feature_is_in_one_row_of_the_table_of_features(dataset: Path) -> None:
    text = (dataset / "features.md").read_text(encoding="utf-8")
    rows = table(text, "feature")
    assert [row[1:] for row in rows] == [list(row[1:]) for row in feature_rows()]
    listed = [(name, row) for row in rows for name in expanded(row[0].strip("`"))]
    columns = {column.name: column for column in CONFIGS["features"] if column.unit}
    assert sorted(name for name, _ in listed) == sorted(columns)
    for name, (_, unit, range_, formula, _) in listed:
        assert unit == columns[name].unit
        if not name.endswith("_diff"):
            assert range_ == columns[name].range
            said = columns[name].meaning.split(": ", 1)[1]
            for different in ("mouse_", "gaze_"):
                said = (
                    said.replace(different, "{mouse,gaze}_")
                    if name.startswith(different) and "{" in rows[0][0]
                    else said
                )
            assert formula == re.sub("the (left|right) answer$", "that answer", said) or formula == said
    for number in CONSTANTS.values():
        assert f"{number:,}" in text


def test_simulated_data_is_not_passed_off_as_the_study(dataset: Path, copy: Path) -> None:
    head, body = split_card(dataset)
    assert "> **Not the study's data.**" in body
    assert head["extra_gated_prompt"].startswith("Simulated or modified, not the study's data")
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"is_the_released_data": True}))
    write_card(copy)
    assert "Not the study's data" not in split_card(copy)[1]


def test_a_config_that_is_added_appears_on_the_card(copy: Path) -> None:
    replace_configs(copy, {"preferences_forest": preferences(copy, 9)})
    head, body = split_card(copy)
    # An empty split is not declared: load_dataset would refuse the whole config.
    assert json.loads((copy / "contents.json").read_text())["preferences_forest"]["rows"] == {"train": 9}
    assert head["configs"][-1]["config_name"] == "preferences_forest"
    assert [files["split"] for files in head["configs"][-1]["data_files"]] == ["train"]
    assert ["`preferences_forest`", "9", "0", row_is("preferences_forest")] in table(body, "config")
    pairs = json.loads((copy / "manifest.json").read_text())["questions"]["pairwise"]["questions"]
    lacking = re.search(r"`preferences_\*` lack (\d+) of the (\d+) pairs: ([^.]*)\.", body)
    assert [int(lacking[1]), int(lacking[2])] == [pairs - 9, pairs]
    assert sum(map(int, re.findall(r"\d+", lacking[3]))) == pairs - 9
    replace_configs(copy, {"preferences_forest": preferences(copy, 0)})
    assert [config["config_name"] for config in split_card(copy)[0]["configs"]] == BUILT


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_new_preferences_leave_the_figures_and_change_the_rest_of_the_card(copy: Path) -> None:
    (copy / "figures" / "dwell.png").unlink()
    (copy / "figures" / "preference.png").write_bytes(b"kept")
    replace_configs(copy, {"preferences_forest": preferences(copy, 9)})
    assert (copy / "figures" / "preference.png").read_bytes() == b"kept"
    without = content(copy) | {"figures/preference.png": b""}
    write_card(copy)
    assert content(copy) | {"figures/preference.png": b""} == without
    (copy / "figures" / "preference.png").write_bytes(b"old")
    replace_configs(copy, {"pairwise": load_config(copy, "pairwise")})
    assert (copy / "figures" / "preference.png").read_bytes() != b"old"


def test_the_card_is_the_same_when_nothing_changed(dataset: Path, copy: Path) -> None:
    write_card(copy)
    assert content(copy) == content(dataset)


def test_the_card_of_another_process_is_the_same(dataset: Path, copy: Path) -> None:
    for path in (*copy.glob("*.md"), copy / "contents.json", copy / "croissant.json", *(copy / "figures").iterdir()):
        path.unlink()
    code = (
        "import sys, pathlib; from ifllm_hub.dataset.card.pages import write_card; "
        "write_card(pathlib.Path(sys.argv[1]))"
    )
    environment = {"PYTHONWARNINGS": "error", **os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, copy], env=environment, check=True)
    assert content(copy) == content(dataset)


# --- figures


def test_the_figures_of_the_card_are_in_the_folder(dataset: Path) -> None:
    _, body = split_card(dataset)
    shown = re.findall(r"^!\[([^\]]+)\]\(([^)]+)\)$", body, flags=re.MULTILINE)
    assert {path for _, path in shown} == {f"figures/{path.name}" for path in (dataset / "figures").iterdir()}
    assert len(shown) == 3
    for alt, path in shown:
        assert re.search(r"\d", alt)
        with Image.open(dataset / path) as image:
            image.verify()
            assert image.info.keys() <= {"dpi"}  # no date, no software version
            assert image.width >= 900
        assert (dataset / path).stat().st_size < 100_000
    assert not re.search(r"worker_[0-9a-f]{8}", "".join(alt for alt, _ in shown))


def test_a_simulation_without_rated_pairs_or_dates_gets_a_card(copy: Path) -> None:
    for config, column in (("pairwise", "preference"), ("pairwise", "asked_at"), ("pointwise", "asked_at")):
        for split in SPLITS:
            frame = pl.read_parquet(parquet(copy, config, split))
            frame.with_columns(pl.lit(None, frame.schema[column]).alias(column)).write_parquet(
                parquet(copy, config, split)
            )
    write_card(copy)
    _, body = split_card(copy)
    assert "no rated pairs" in body
    assert "Questions were asked from" not in body
    assert "longer answer is preferred" not in body


# --- datasheet


def test_the_datasheet_has_the_sections_of_gebru_and_honest_gaps(dataset: Path) -> None:
    text = (dataset / "datasheet.md").read_text()
    assert re.findall(r"^## (\w+)", text, flags=re.MULTILINE) == [
        "Motivation",
        "Composition",
        "Collection",
        "Preprocessing",
        "Uses",
        "Distribution",
        "Maintenance",
    ]
    assert "**Who funded it?** Unknown." in text
    assert "**Was there an ethical review?** Unknown." in text
    questions = json.loads((dataset / "manifest.json").read_text())["questions"]["all"]
    assert f"{questions['questions']} questions of {questions['workers']} workers" in text
    assert "Not the study's data" in text


@pytest.mark.parametrize("name", ["README.md", "datasheet.md", "features.md"])
def test_the_text_is_well_formed(dataset: Path, name: str) -> None:
    text = (dataset / name).read_text()
    assert not re.search(r"\{[{%]|[%}]\}|\bNone\b|\bnan\b", text)
    assert "\n\n\n\n" not in text
    assert text.endswith("\n")
    body = text.split("---\n", 2)[-1]
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", body):
        assert (dataset / link).is_file(), link
    lines = body.split("\n")
    for before, line in itertools.pairwise(lines):
        if re.match(r"#{1,6} ", line):
            assert before == ""


def test_a_folder_without_a_manifest_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"manifest\.json: missing or damaged"):
        write_card(tmp_path)
    assert list(tmp_path.iterdir()) == []
