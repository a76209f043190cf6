"""Any source becomes a dataset that others open without us, and that every later command takes."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.manifest import data_origin, read_manifest
from ifllm_hub.dataset.publishing.publish import _check_folder
from ifllm_hub.dataset.schema import present_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.importing import import_dataset
from ifllm_hub.preferences.labels import write_preferences
from ifllm_hub.preferences.load import load_preferences
from ifllm_hub.sources.source import Recorded
from tests.made_source import FACTS, Made


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "dataset"
    import_dataset(Made(), FACTS, out)
    return out


def test_others_open_it_without_us(imported: Path) -> None:
    code = (
        "import json, sys\nfrom datasets import load_dataset\n"
        "print(json.dumps({name: sum(part.num_rows for part in load_dataset(sys.argv[1], name).values())\n"
        "    for name in ('pairwise', 'pointwise', 'trajectories', 'features', 'preferences_explicit')}))"
    )
    ran = subprocess.run([sys.executable, "-c", code, imported], capture_output=True, text=True, check=True)
    counts = {"pairwise": 72, "pointwise": 24, "trajectories": 96, "features": 96, "preferences_explicit": 72}
    assert json.loads(ran.stdout) == counts


def test_the_manifest_and_the_card_are_of_the_source(imported: Path) -> None:
    manifest = read_manifest(imported)
    assert manifest["imported"] == FACTS
    assert manifest["received"] == {"ticks: lost": 1, "ticks: on an answer": ticks(imported)}
    assert (manifest["people"], manifest["conversations"]) == (12, 12)
    assert data_origin(imported) == "imported"
    card = (imported / "README.md").read_text()
    for said in ("Made-up readings", "license: unknown", "No license is known", "It is made up.", "@misc{made"):
        assert said in card
    assert "source.parquet" not in card  # it has no columns of its own
    for of_the_study in ("IFLLM", "2606.20482", "crowd", "Mechanical Turk"):
        assert of_the_study not in card
    _check_folder(imported)  # may be published


def ticks(folder: Path) -> int:
    return int(load_config(folder, "trajectories")["t"].list.len().sum())


def test_dwell_is_what_was_recorded(imported: Path) -> None:
    rows = (
        load_config(imported, "features")
        .filter(mode="pairwise")
        .join(load_config(imported, "pairwise").select("question_id", "preference"), on="question_id")
    )
    read_longer = pl.when(pl.col("gaze_dwell_diff") > 0).then(pl.lit("left")).otherwise(pl.lit("right"))
    assert rows.select((read_longer == pl.col("preference")).all()).item()


def test_later_commands_take_it(imported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    import_dataset(Made(24, 8), FACTS, folder)
    rows = write_preferences(folder, labels=folder / "labels/crowd.csv", name="crowd")
    assert set(rows["label_source"]) >= {"explicit", "forest", "crowd"}
    longer = load_config(folder, "preferences_crowd")
    texts = [pl.col(name).list.first().struct.field("content").str.len_chars() for name in ("chosen", "rejected")]
    assert longer.select((texts[0] >= texts[1]).all()).item()
    assert load_preferences(folder, "crowd")["train"].num_rows > 0
    lines = [json.loads(line) for line in (folder / "trl/kto.jsonl").read_text().splitlines()]
    assert {line["label"] for line in lines} == {True, False}


@pytest.mark.slow
def test_the_leaderboard_and_the_patterns_take_it(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ifllm_hub.cli import app

    folder = tmp_path / "dataset"
    import_dataset(Made(24, 8), FACTS, folder)
    for command in (
        ["leaderboard", str(folder), "--seeds", "1", "--out", str(tmp_path / "board")],
        ["patterns", str(folder), "--out", str(tmp_path / "patterns")],
    ):
        ran = CliRunner().invoke(app, command, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output


def test_who_withdrew_is_nowhere(tmp_path: Path) -> None:
    import_dataset(Made(), FACTS, tmp_path / "out", withdrawn=["made_03"])
    assert read_manifest(tmp_path / "out")["people"] == 11
    for config in present_configs(tmp_path / "out"):
        assert "made_03" not in load_config(tmp_path / "out", config)["worker_id"]
    assert "4000" not in (tmp_path / "out/labels/crowd.csv").read_text()


def digests(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


class Repeated(Made):
    def read(self, people: Sequence[str]) -> Recorded[Counter[str]]:
        recorded, same = super().read(people), pl.col("question_id") % 1_000 + 1
        questions = recorded.questions.with_columns(question_id=same)
        return replace(recorded, questions=questions, trajectories=recorded.trajectories.with_columns(question_id=same))


@dataclass(frozen=True)
class Other(Made):
    column: str = ""
    value: object = None

    def __init__(self, column: str, value: object):
        object.__setattr__(self, "column", column)
        object.__setattr__(self, "value", value)

    def read(self, people: Sequence[str]) -> Recorded[Counter[str]]:
        recorded = super().read(people)
        return replace(recorded, questions=recorded.questions.with_columns(pl.lit(self.value).alias(self.column)))


class Unordered(Made):
    def read(self, people: Sequence[str]) -> Recorded[Counter[str]]:
        recorded = super().read(people)
        return replace(recorded, trajectories=recorded.trajectories.reverse())


def test_a_source_that_says_nothing_or_the_same_twice_leaves_what_was_there(imported: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_dataset(Made(3, 2), FACTS, out)
    before = digests(out)
    with pytest.raises(IfllmError, match="Made-up readings: no question"):
        import_dataset(Made(0), FACTS, out)
    with pytest.raises(IfllmError, match="two questions have the same id"):
        import_dataset(Repeated(3, 2), FACTS, out)
    with pytest.raises(IfllmError, match="two questions have the same id"):  # in different parts
        import_dataset(Repeated(70, 1), FACTS, out)
    for column, value in (("preference", "Left"), ("label_crowd", "first"), ("rating_left", 9), ("kto_x", 1)):
        with pytest.raises(IfllmError, match=f"{column} has the value {value!r}; allowed are"):
            import_dataset(Other(column, value), FACTS, out)
    with pytest.raises(IfllmError, match="its trajectories are not those of its questions"):
        import_dataset(Unordered(3, 2), FACTS, out)
    assert digests(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
