"""An Eye-Tracking-BIDS folder: what is in it, read without the package, and what the BIDS validator says of it."""

import csv
import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.errors import IfllmError
from ifllm_hub.patterns.exports.bids import write_bids
from ifllm_hub.patterns.exports.samples import Screen
from tests.collect.client import reading
from tests.collect.conftest import Site, make_site, site
from tests.conftest import made_once
from tests.dataset.folders import content, rows

__all__ = ["make_site", "site"]
SCREEN = Screen((1920, 1080), (53, 30), 60)


@pytest.fixture(scope="session")
def bids(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once("bids", lambda out: write_bids(dataset, out / "bids", SCREEN), tmp_path_factory) / "bids"


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def recording(path: Path) -> tuple[dict[str, Any], list[list[str]]]:
    """Sidecar and rows of a compressed file, which has no header."""
    sidecar = json.loads(path.with_name(path.name.replace(".tsv.gz", ".json")).read_text())
    return sidecar, [line.split("\t") for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def test_every_tick_of_the_dataset_is_in_a_run(bids: Path, dataset: Path) -> None:
    recorded = {row["question_id"]: row for row in rows(dataset, "trajectories").to_dicts()}
    people = {person["participant_id"]: person["worker_id"] for person in table(bids / "participants.tsv")}
    runs = sorted(bids.glob("sub-*/beh/*_events.tsv"))
    assert len(runs) == len(recorded)
    for run in runs:
        (event,) = table(run)
        row = recorded.pop(int(event["question_id"]))
        subject = run.name.partition("_")[0]
        assert run.parent == bids / subject / "beh"
        assert people[subject] == row["worker_id"]
        assert (event["onset"], float(event["duration"])) == ("0", row["t"][-1] / 1_000)
        assert event["trial_type"] == row["mode"]
        assert event["length_right"] == ("n/a" if row["length_right"] is None else str(row["length_right"]))
        for modality, label in (("mouse", "mouse"), ("gaze", "eye1")):
            file = run.with_name(run.name.replace("events.tsv", f"recording-{label}_physio.tsv.gz"))
            sidecar, lines = recording(file)
            assert sidecar["StartTime"] == row["t"][0] / 1_000
            assert 5 < sidecar["SamplingFrequency"] < 25
            times, xs, ys, sides, chars = zip(*lines, strict=True)
            assert [int(time) for time in times] == row["t"]
            for written, axis in ((xs, "x"), (ys, "y")):
                pairs = zip(written, row[f"{modality}_{axis}"], strict=True)
                assert all(abs(float(text) - place) < 1e-3 for text, place in pairs)
            carets = zip(row[f"{modality}_char_left"], row[f"{modality}_char_right"], strict=True)
            expected = [
                ("left", str(a)) if a >= 0 else ("right", str(b)) if b >= 0 else ("n/a",) * 2 for a, b in carets
            ]
            assert list(zip(sides, chars, strict=True)) == expected
    assert not recorded


def test_what_the_standard_asks_of_eye_tracking(bids: Path) -> None:
    sidecar, _ = recording(next(bids.rglob("*eye1_physio.tsv.gz")))
    assert sidecar["Columns"] == ["timestamp", "x_coordinate", "y_coordinate", "side", "char"]
    assert (sidecar["PhysioType"], sidecar["RecordedEye"]) == ("eyetrack", "cyclopean")
    # A viewport is not the screen, so the standard wants `custom` and a description.
    assert sidecar["SampleCoordinateSystem"] == "custom"
    assert "viewport" in sidecar["SampleCoordinateSystemDescription"]
    assert sidecar["x_coordinate"]["Units"] == sidecar["y_coordinate"]["Units"] == "px"
    assert recording(next(bids.rglob("*mouse_physio.tsv.gz")))[0]["PhysioType"] == "generic"
    presentation = json.loads((bids / "task-reading_events.json").read_text())["StimulusPresentation"]
    assert presentation == {
        "ScreenOrigin": ["top", "left"],
        "ScreenDistance": 0.6,
        "ScreenResolution": [1920, 1080],
        "ScreenSize": [0.53, 0.3],
    }
    assert json.loads((bids / "dataset_description.json").read_text())["BIDSVersion"] == "1.11.1"


def test_no_text_leaves_and_bytes_repeat(bids: Path, dataset: Path, tmp_path: Path) -> None:
    everything = b"".join(
        gzip.decompress(data) if name.endswith(".gz") else data for name, data in content(bids).items()
    ).decode()
    texts = [*rows(dataset, "pairwise")["response_left"], *rows(dataset, "pointwise")["query"]]
    assert len(texts) > 20
    assert not [text for text in texts if text in everything]
    write_bids(dataset, tmp_path / "again", SCREEN)
    assert content(tmp_path / "again") == content(bids)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "again").rglob("*")} == {0}


def collected(site: Site, out: Path) -> Path:
    """An export with a pair that was read by mouse and eye, and an answer that was only pointed at once."""
    gaze = [[*tick[:4], tick[4], 3] for tick in reading(4, 1)]
    assert site.send(site.pair("ann", "q1"), 1, ticks=reading(4, 0), gaze=gaze).status_code == 202
    single = site.register("bob", "q2")["token"]
    assert site.send([single], 2, ticks=reading(0.08, 0), events=[[1_500, "leave", 0, 0]]).status_code == 202
    export_dataset(site.store, out, site.pseudonyms)
    return out


def test_a_collected_dataset(site: Site, tmp_path: Path) -> None:
    export = collected(site, tmp_path / "export")
    assert write_bids(export, tmp_path / "bids", SCREEN) == 2
    people = table(tmp_path / "bids" / "participants.tsv")
    assert {person["worker_id"] for person in people} == set(rows(export, "trajectories")["worker_id"])
    assert all(person["participant_id"] == f"sub-{person['worker_id'].replace('_', '')}" for person in people)
    assert "ann" not in "".join(str(path) for path in (tmp_path / "bids").rglob("*"))
    recordings = sorted(path.name.partition("recording-")[2] for path in (tmp_path / "bids").rglob("*.tsv.gz"))
    assert recordings == ["eye1_physio.tsv.gz", "mouse_physio.tsv.gz"]  # of ann; one tick of bob has no rate
    (eye,) = (tmp_path / "bids").rglob("*eye1_physio.tsv.gz")
    sidecar, lines = recording(eye)
    assert sidecar["SamplingFrequency"] == 12.5
    assert (len(lines), {line[3] for line in lines}) == (50, {"right"})


def test_bad_input(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"width is given as 100 px, but a window was \d+ px"):
        write_bids(dataset, tmp_path / "out", Screen((100, 1080), (53, 30), 60))
    public = tmp_path / "public"
    shutil.copytree(dataset, public, ignore=shutil.ignore_patterns("trajectories"))
    with pytest.raises(IfllmError, match=r"has no trajectories.*--tier full"):
        write_bids(public, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(IfllmError, match=r"no dataset_description\.json"):
        write_bids(dataset, tmp_path / "mine")


def errors(folder: Path) -> list[str]:
    """What the BIDS validator rejects."""
    program = Path(sys.executable).with_name("bids-validator-deno")
    if not program.is_file():
        pytest.skip("needs the BIDS validator: pip install bids-validator-deno")
    done = subprocess.run([program, "--json", folder], capture_output=True, text=True, check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    found = [
        f"{issue['code']} {issue.get('subCode')} {issue['location']}"
        for issue in issues
        if issue["severity"] == "error"
    ]
    assert done.returncode == bool(found)
    return found


@pytest.mark.slow
def test_the_validator_accepts_it(bids: Path, dataset: Path, site: Site, tmp_path: Path) -> None:
    assert errors(bids) == []
    write_bids(dataset, tmp_path / "no-screen")
    assert errors(tmp_path / "no-screen") == []
    write_bids(collected(site, tmp_path / "export"), tmp_path / "collected", SCREEN)
    assert errors(tmp_path / "collected") == []
    damaged = next((tmp_path / "no-screen").rglob("*eye1_physio.json"))
    damaged.write_text(damaged.read_text().replace('"RecordedEye"', '"Eye"'))
    assert [error.partition(" /")[0] for error in errors(tmp_path / "no-screen")] == [
        "SIDECAR_KEY_REQUIRED RecordedEye"
    ]
