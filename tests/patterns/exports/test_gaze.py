"""Recordings for pymovements: the same ticks as in the dataset, as a `Gaze` and through the definition of a folder."""

import math
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pymovements
import pytest

from ifllm_hub.dataset.layout import parquet_path
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.errors import IfllmError
from ifllm_hub.patterns.exports.gaze import load_gaze, write_gaze_dataset
from ifllm_hub.patterns.exports.samples import Screen, sampling_rate, subjects
from tests.dataset.folders import content, rows


def by_question(dataset: Path) -> dict[int, dict[str, Any]]:
    return {row["question_id"]: row for row in rows(dataset, "trajectories").to_dicts()}


def with_hole(dataset: Path, out: Path) -> Path:
    """A copy in which the second tick of every question has neither mouse nor gaze."""
    shutil.copytree(dataset, out)
    places = [pl.col(name) for name in ("gaze_x", "gaze_y", "mouse_x", "mouse_y")]
    for split in SPLITS:
        path = parquet_path(out, "trajectories", split)
        holed = [pl.concat_list(x.list.head(1), pl.lit(None, pl.Float32), x.list.slice(2)) for x in places]
        pl.read_parquet(path).with_columns(holed).write_parquet(path)
    return out


@pytest.mark.parametrize("modality", ["mouse", "gaze"])
def test_a_gaze_has_the_ticks_of_the_dataset(dataset: Path, tmp_path: Path, modality: str) -> None:
    holed = with_hole(dataset, tmp_path / "holed")
    gaze = load_gaze(holed, modality=modality)
    assert gaze.trial_columns == ["worker_id", "question_id"]
    assert gaze.samples.schema["time"] == pl.Int64
    recorded, seen = by_question(holed), 0
    for question in gaze.split():
        ticks = question.samples.to_dict(as_series=False)
        row = recorded[ticks["question_id"][0]]
        assert set(ticks["worker_id"]) == {row["worker_id"]}
        assert ticks["time"] == row["t"]
        assert ticks["pixel"] == [list(place) for place in zip(row[f"{modality}_x"], row[f"{modality}_y"], strict=True)]
        assert ticks["pixel"][1] == [None, None]
        carets = zip(row[f"{modality}_char_left"], row[f"{modality}_char_right"], strict=True)
        expected = [("left", a) if a >= 0 else ("right", b) if b >= 0 else (None, None) for a, b in carets]
        assert list(zip(ticks["side"], ticks["char"], strict=True)) == expected
        seen += len(ticks["time"])
    assert seen == sum(len(row["t"]) for row in recorded.values())


def test_one_question_and_its_screen(dataset: Path) -> None:
    question = rows(dataset, "trajectories")["question_id"][3]
    gaze = load_gaze(dataset, [question], screen=Screen((1920, 1080), (53, 30), 60))
    assert set(gaze.samples["question_id"]) == {question}
    gaze.pix2deg()
    x, _ = gaze.samples["pixel"][0]
    degrees, _ = gaze.samples["position"][0]
    # The angle between the middle of the screen and the point, as seen from 60 cm.
    assert degrees == pytest.approx(math.degrees(math.atan2((x - 1919 / 2) * 53 / 1920, 60)), abs=1e-3)
    with pytest.raises(Exception, match="distance"):
        load_gaze(dataset, [question]).pix2deg()


def test_the_rate_is_the_median_one_and_times_are_kept(dataset: Path) -> None:
    gaze = load_gaze(dataset)
    steps = [b - a for row in by_question(dataset).values() for a, b in zip(row["t"], row["t"][1:], strict=False)]
    assert gaze.experiment.sampling_rate == pytest.approx(1_000 / sorted(steps)[len(steps) // 2], abs=0.01)
    assert len(set(steps)) > 20  # so nobody may take the rate for the times
    lone = pl.DataFrame({"question_id": [1, 2], "time": [5, 9]})
    assert math.isnan(sampling_rate(lone))


def test_pymovements_loads_the_folder_by_its_definition(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "movements"
    write_gaze_dataset(dataset, out, Screen((1920, 1080), (53, 30), 60))
    definition = pymovements.DatasetDefinition.from_yaml(out / "ifllm.yaml")
    loaded = pymovements.Dataset(definition, path=out).load()
    assert definition.experiment.screen.distance_cm == 60
    for modality in ("mouse", "gaze"):
        files = [gaze for gaze in loaded.gaze if gaze.metadata["modality"] == modality]
        together = pl.concat([gaze.samples for gaze in files]).sort("question_id", maintain_order=True)
        whole = load_gaze(dataset, modality=modality).samples.sort("question_id", maintain_order=True)
        assert together.drop("pixel").equals(whole.select(together.drop("pixel").columns))
        apart = (together["pixel"].list.get(0) - whole["pixel"].list.get(0)).abs().max()
        assert apart < 1e-3  # Float32 in decimal
    loaded.load_precomputed_reading_measures()
    (measures,) = (file.frame for file in loaded.precomputed_reading_measures)
    features = rows(dataset, "features").sort("question_id")
    assert measures.sort("question_id")["mouse_dwell_left"].to_list() == features["mouse_dwell_left"].to_list()
    before = content(out)
    write_gaze_dataset(dataset, out, Screen((1920, 1080), (53, 30), 60))
    assert content(out) == before
    assert {path.stat().st_mode & 0o077 for path in out.rglob("*")} == {0}


def test_the_public_tier_has_measures_only(dataset: Path, tmp_path: Path) -> None:
    public, out = tmp_path / "public", tmp_path / "movements"
    shutil.copytree(dataset, public, ignore=shutil.ignore_patterns("trajectories"))
    write_gaze_dataset(public, out)
    definition = pymovements.DatasetDefinition.from_yaml(out / "ifllm.yaml")
    loaded = pymovements.Dataset(definition, path=out).load()
    loaded.load_precomputed_reading_measures()
    assert not loaded.gaze
    assert loaded.precomputed_reading_measures[0].frame.height == rows(dataset, "features").height
    with pytest.raises(IfllmError, match=r"has no trajectories.*--tier full"):
        load_gaze(public)


def test_bad_input(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="nothing was recorded for question 987654"):
        load_gaze(dataset, [987654])
    with pytest.raises(IfllmError, match="not positive"):
        Screen((1920, 1080), (53, -30), 60)
    with pytest.raises(IfllmError, match="not positive"):
        Screen((1920, 1080), (53, 30), math.nan)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(IfllmError, match=r"no ifllm\.yaml"):
        write_gaze_dataset(dataset, tmp_path / "mine")


def test_names_in_files_are_letters_and_digits() -> None:
    assert subjects(pl.Series(["b_2", "../a", "b_2"])) == {"../a": "a", "b_2": "b2"}
    for ids in (["b_2", "B2"], ["___"]):
        with pytest.raises(IfllmError, match="letters and digits"):
            subjects(pl.Series(ids))
