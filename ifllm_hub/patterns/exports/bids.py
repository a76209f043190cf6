"""Recordings as an Eye-Tracking-BIDS folder (BIDS 1.11, "Physiological recordings"): a run per question, no texts."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub import __version__
from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import replacing_folder
from ifllm_hub.patterns.exports.samples import Screen, load_trajectories, samples, sampling_rate, subjects
from ifllm_hub.terms import MODALITIES, MODES

DESCRIPTION = "dataset_description.json"
BIDS_VERSION = "1.11.1"
TASK = "reading"
_TASK = {"TaskName": TASK, "TaskDescription": "Reading one or two answers of language models to one's own question"}
# What each modality's files are called. BIDS has no type for a mouse; "generic" admits any columns.
_RECORDINGS = {"mouse": "mouse", "gaze": "eye1"}
_POSITIONS = {"mouse": ("x", "y"), "gaze": ("x_coordinate", "y_coordinate")}
_OF_QUESTIONS = ("question_id", "conversation_id", "turn", "bullet_points", "asked_at", "ai_error", "excluded_worker")

_VIEWPORT = (
    "CSS px from the top left corner of the browser's viewport, x to the right and y down. Where the viewport was on "
    "the screen is not known, so this is not `gaze-on-screen`. Gaze estimates may lie outside of the viewport"
)
_TIME = {
    "Description": "Time since the answer appeared. Sampling is irregular: this, not the row, says when a sample was",
    "Units": "ms",
}
_TEXT_COLUMNS = {
    "side": {
        "Description": "Answer whose text is at the position; n/a off the text",
        "Levels": {"left": "Left answer, or the only one", "right": "Right answer"},
    },
    "char": {"Description": "Caret at the position: code points before it in that answer; n/a off the text"},
}
_EVENT_COLUMNS = {
    "duration": {"Description": "From the answer's appearance to the last sample", "Units": "s"},
    "trial_type": {
        "Description": "What was on the screen",
        "Levels": {"pairwise": "Two answers side by side", "pointwise": "One answer"},
    },
    "question_id": {"Description": "Key that joins all configs of the dataset"},
    "conversation_id": {"Description": "Conversation that the question belongs to"},
    "turn": {"Description": "1 for the first question of the conversation"},
    "length_left": {"Description": "Length of the left (or only) answer, in code points"},
    "length_right": {"Description": "Length of the right answer, in code points"},
    "bullet_points": {
        "Description": "Whether the LLM was asked for bullet points",
        "Levels": {"true": "It was", "false": "It was not"},
    },
    "ai_error": {
        "Description": "Whether an answer is an error message of the server; such trials are to be left out",
        "Levels": {"true": "It is", "false": "It is not"},
    },
}
_PARTICIPANT_COLUMNS = {
    "worker_id": {"Description": "Pseudonym of the participant in all configs of the dataset"},
    "excluded_worker": {
        "Description": "Whether the participant is on the study authors' list of those left out of their analyses",
        "Levels": {"true": "On the list", "false": "Not on the list"},
    },
}
_README = """\
# How people read LLM answers: mouse and webcam gaze

A run is one question, whose answers appeared at onset 0. Events join the other configs of the dataset by `question_id`.

- `recording-eye1`: webcam gaze. A sample is a noisy estimate of where both eyes looked; samples come about twelve times
  a second, irregularly. Saccades and fixations cannot be told from them.
- `recording-mouse`: the cursor. BIDS has no recording type for a mouse, so this is a generic one.
- `side` and `char` are the answer and the character under the position, checked against the text.
- Off the text, the cursor can reveal the click on the rating, and so the label: never train on its positions.
- Queries and answers are left out, since people may have written about themselves. Participants are pseudonyms.
"""


def write_bids(dataset: str | Path, out: Path, screen: Screen | None = None) -> int:
    """Write the recordings of a dataset as an Eye-Tracking-BIDS folder that the BIDS validator accepts.

    Positions are of the browser's viewport, so their coordinate system is `custom`, described in each sidecar, and not
    `gaze-on-screen`. For `custom`, BIDS does not require the screen's size and distance; give them if you know them:
    without them, nobody can convert pixels to degrees. A row is a tick with a position or a character; a modality with
    fewer than two of them in a question has no file there. Texts are left out, and participants are pseudonyms. A later
    withdrawal does not reach the folder: export it again.

    Args:
        dataset: a folder of tier `full`, a collector's export, or a Hub repo id.
        out: replaced if it is an earlier export. Only its owner may read it.
        screen: what everybody read on.

    Returns:
        The number of runs.

    Raises:
        IfllmError: the dataset has no trajectories, a window was larger than the screen, two workers would have one
            name, or `out` cannot be written.
    """
    trajectories = load_trajectories(dataset)
    if screen:
        _check_fits(trajectories, screen)
    questions = pl.concat([load_config(dataset, mode).select(_OF_QUESTIONS) for mode in MODES])
    runs = trajectories.join(questions, on="question_id", how="left", maintain_order="left").sort(
        "worker_id", "asked_at", "question_id", nulls_last=True
    )
    ticks = {
        modality: samples(trajectories, modality)
        .filter(pl.col("x").is_not_null() | pl.col("char").is_not_null())
        .filter(pl.col("time").n_unique().over("question_id") > 1)  # one moment has no sampling rate
        .partition_by("question_id", as_dict=True)
        for modality in MODALITIES
    }
    names = subjects(runs["worker_id"])
    digits = len(str(runs.height))
    with replacing_folder(out, DESCRIPTION, private=True) as folder:
        _write_top(folder, runs, names, screen)
        for (worker,), theirs in runs.partition_by("worker_id", as_dict=True).items():
            subject = f"sub-{names[str(worker)]}"
            (folder / subject / "beh").mkdir(parents=True)
            for number, run in enumerate(theirs.iter_rows(named=True), start=1):
                stem = folder / subject / "beh" / f"{subject}_task-{TASK}_run-{number:0{digits}}"
                _write_run(stem, run, {name: rows.get((run["question_id"],)) for name, rows in ticks.items()})
    return runs.height


def _check_fits(trajectories: pl.DataFrame, screen: Screen) -> None:
    """Refuse a screen that is smaller than a window on it."""
    for axis, given in zip(("width", "height"), screen.resolution, strict=True):
        largest = trajectories[f"viewport_{axis}"].max()
        if isinstance(largest, int) and largest > given:
            raise IfllmError(
                f"The screen's {axis} is given as {given} px, but a window was {largest} px. Give its resolution in "
                "CSS px, or leave the screen out if people had different ones."
            )


def _write_top(folder: Path, runs: pl.DataFrame, names: dict[str, str], screen: Screen | None) -> None:
    """Write what holds for all runs: the description, the participants, and what is said about every event."""
    description = {
        "Name": "How people read LLM answers",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "ifllm_hub", "Version": __version__}],
    }
    _write_json(folder / DESCRIPTION, description)
    (folder / "README.md").write_text(_README, encoding="utf-8")
    people = (
        runs.select("worker_id", "excluded_worker")
        .unique("worker_id", maintain_order=True)
        .select(pl.format("sub-{}", pl.col("worker_id").replace_strict(names)).alias("participant_id"), pl.all())
    )
    _write_tsv(folder / "participants.tsv", people)
    _write_json(folder / "participants.json", _PARTICIPANT_COLUMNS)
    presentation: dict[str, Any] = {"ScreenOrigin": ["top", "left"]}
    if screen:
        presentation |= {
            "ScreenDistance": screen.distance_cm / 100,
            "ScreenResolution": list(screen.resolution),
            "ScreenSize": [length / 100 for length in screen.size_cm],
        }
    events = {**_TASK, "StimulusPresentation": presentation, **_EVENT_COLUMNS}
    _write_json(folder / f"task-{TASK}_events.json", events)


def _write_run(stem: Path, run: dict[str, Any], ticks: dict[str, pl.DataFrame | None]) -> None:
    """Write the event of a question and the recordings that it has.

    Args:
        run: a row of `trajectories` with that of its question.
        ticks: by modality, from `samples`.
    """
    known = {**run, "duration": run["t"][-1] / 1_000, "trial_type": run["mode"]}
    event = {"onset": 0, **{name: known[name] for name in _EVENT_COLUMNS}}
    _write_tsv(_named(stem, "events.tsv"), pl.DataFrame([event]))
    for modality, recorded in ticks.items():
        if recorded is not None:
            _write_recording(_named(stem, f"recording-{_RECORDINGS[modality]}_physio.tsv.gz"), recorded, modality)


def _write_recording(path: Path, ticks: pl.DataFrame, modality: str) -> None:
    """Write one compressed file of samples, which has no header, and its sidecar."""
    x, y = _POSITIONS[modality]
    columns = ticks.select("time", "x", "y", "side", "char").rename({"time": "timestamp", "x": x, "y": y})
    text = columns.write_csv(separator="\t", null_value="n/a", include_header=False)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    what = "Cursor" if modality == "mouse" else "Gaze estimate"
    sidecar: dict[str, Any] = {
        **_TASK,
        "SamplingFrequency": sampling_rate(ticks),
        "StartTime": ticks["time"][0] / 1_000,
        "Columns": columns.columns,
        "timestamp": _TIME,
        x: {"Description": f"{what}, x: {_VIEWPORT}", "Units": "px"},
        y: {"Description": f"{what}, y: {_VIEWPORT}", "Units": "px"},
        **_TEXT_COLUMNS,
    }
    if modality == "gaze":
        sidecar |= {
            "PhysioType": "eyetrack",
            "RecordedEye": "cyclopean",
            "SampleCoordinateSystem": "custom",
            "SampleCoordinateSystemDescription": _VIEWPORT,
            "EyeTrackingMethod": "webcam, appearance-based",
        }
    else:
        sidecar["PhysioType"] = "generic"
    _write_json(path.with_name(path.name.removesuffix(".tsv.gz") + ".json"), sidecar)


def _named(stem: Path, suffix: str) -> Path:
    return stem.with_name(f"{stem.name}_{suffix}")


def _write_tsv(path: Path, rows: pl.DataFrame) -> None:
    rows.write_csv(path, separator="\t", null_value="n/a")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
