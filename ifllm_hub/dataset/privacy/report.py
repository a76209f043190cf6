"""The privacy report of a dataset: what its tier leaves out, and how well the people in it can be told apart."""

import json
from pathlib import Path
from typing import TypedDict

import polars as pl

from ifllm_hub.dataset.coarse import COARSE, STEPS, coarse
from ifllm_hub.dataset.load import load_config, scan_config
from ifllm_hub.dataset.manifest import TIERS, Built, FoundText, read_manifest
from ifllm_hub.dataset.privacy.attack import Attack, KAnonymity, k_anonymity, reidentify
from ifllm_hub.documents import checked
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.sources.ifllm.archive import TABLES, Release
from ifllm_hub.sources.ifllm.study import read_table
from ifllm_hub.terms import MODES

REPORT, CARD = "privacy_report.json", "README.md"
# What somebody who knows a worker may know from elsewhere, and the column that would confirm it.
DAY, TASK, QUESTIONS, VIEWPORT = "day of asked_at", "task_id", "questions of the worker", "viewport size"
_WHY = {
    DAY: "people tell others, and the crowdsourcing site records, on which days they worked",
    TASK: "the topic that the worker chose and may have talked about",
    QUESTIONS: "how much somebody worked, which their pay tells",
    VIEWPORT: "every website that a person visits sees the size of the window (full tier only)",
}
_NOT_QUASI_IDENTIFIERS = {
    "model_*, bullet_points, mode": "decided by the study's site, known to nobody outside",
    "rating_*, preference, better_than_previous": "what the study asked: sensitive, but not known from elsewhere",
    "query, response_*, messages_*": "free text: see free_text",
    "features, ticks": "behavior: see reidentification",
}
_STATEMENT = (
    "Pseudonymous, not anonymous: whoever knows these values of one question finds the worker, if alone in the group, "
    "and by the pseudonym all of the worker's questions."
)
# Columns of the release's table of workers, which is public and uses the same ids as this dataset.
_DEMOGRAPHICS = ("age", "location", "education", "race", "gender")
_FEW_DEMOGRAPHICS = ("age", "location", "gender")
_DEMOGRAPHICS_STATEMENT = (
    "In no config, but one join away: `worker_id` is `user_id` in the release's record_info_table.csv, which has these "
    "columns. New ids would hide nobody, since question ids, times and texts lead to the same rows."
)
# Columns of the release's tables that are in a config (as worker_id, task_id), or true of everybody in it.
_KEPT_COLUMNS = {"user_id", "task_id", "consent"}
# What the ticks reveal about the person's computer and posture, but not about what was read.
_RECORDING = {
    "viewport_width": pl.col("viewport_width"),
    "viewport_height": pl.col("viewport_height"),
    "interval": pl.col("t").list.diff().list.median(),
    "interval_sd": pl.col("t").list.diff().list.std(),
    "face_ok": pl.col("face_ok").cast(pl.List(pl.Float64)).list.mean(),
    "gaze_x": pl.col("gaze_x").list.median(),
    "gaze_y": pl.col("gaze_y").list.median(),
}


class KAnonymityReport(KAnonymity):
    """k by everything that may be known, by each item alone, and why each may be known."""

    each: list[KAnonymity]
    why: dict[str, str]
    not_quasi_identifiers: dict[str, str]
    statement: str


class Demographics(TypedDict):
    """How well the release's own table tells workers apart, by more or fewer of its columns."""

    workers: int
    each: list[KAnonymity]
    statement: str


class Attacks(TypedDict, total=False):
    """Attacks on the configs that exist; None where too few workers can be attacked."""

    reidentification: Attack | None
    reidentification_coarse: Attack | None
    reidentification_by_recording: Attack | None


class PrivacyReport(Attacks):
    """`privacy_report.json`: shares are of workers (k-anonymity) or of conversations (re-identification)."""

    tier: str
    workers: int
    withdrawn: int
    not_included: list[str]
    window_fields_dropped: int
    k_anonymity: KAnonymityReport
    demographics: Demographics | None
    free_text: FoundText | None


def is_unreported(folder: Path) -> bool:
    """Whether a dataset folder was built without a privacy report and a card, and has neither yet.

    Raises:
        IfllmError: its manifest is missing or damaged.
    """
    has_either = any((folder / name).exists() for name in (REPORT, CARD))
    return "release_sha256" in read_manifest(folder) and not has_either


def unreported(folder: Path) -> IfllmError:
    """The error where the privacy report and the card are needed."""
    return IfllmError(f"{folder}: has no privacy report and no card yet. Make them with `ifllm card RELEASE {folder}`.")


def read_privacy_report(folder: Path) -> PrivacyReport:
    """The privacy report of a dataset folder.

    Raises:
        IfllmError: it is missing or damaged, or the folder was built without.
    """
    if is_unreported(folder):
        raise unreported(folder)
    return checked(read_json(folder / REPORT), PrivacyReport, folder / REPORT, "Build the dataset again.")


def save_privacy_report(folder: Path, report: PrivacyReport) -> None:
    """Write `privacy_report.json`.

    Raises:
        IfllmError: the folder cannot be written.
    """
    write_atomically(folder / REPORT, json.dumps(report, indent=2) + "\n")


def write_privacy_report(folder: Path, release: Release, manifest: Built) -> None:
    """Write `privacy_report.json` for a folder that has the configs; the same bytes for the same content.

    Args:
        manifest: the folder's.

    Raises:
        IfllmError: a config is missing or damaged.
    """
    questions = _questions(folder)
    known, attacks = [DAY, TASK, QUESTIONS], _attacks(folder, questions)
    if "trajectories" in TIERS[manifest["tier"]]:
        recording = _recording(folder, questions)
        attacks["reidentification_by_recording"] = reidentify(recording, list(_RECORDING))
        questions = questions.join(recording.select("question_id", VIEWPORT), on="question_id", how="left")
        known.append(VIEWPORT)
    source = [name for table in TABLES[1:] for name in read_table(release, table).columns]
    report: PrivacyReport = {
        "tier": manifest["tier"],
        "workers": questions["worker_id"].n_unique(),
        "withdrawn": manifest["withdrawn"]["workers"],
        "not_included": [*(name for name in source if name not in _KEPT_COLUMNS), "window text of the recording"],
        "window_fields_dropped": manifest["lines"]["rel"]["ticks"],
        "k_anonymity": {
            **k_anonymity(questions, known),
            "each": [k_anonymity(questions, [name]) for name in known],
            "why": {name: _WHY[name] for name in known},
            "not_quasi_identifiers": _NOT_QUASI_IDENTIFIERS,
            "statement": _STATEMENT,
        },
        "demographics": _demographics(release, questions["worker_id"].unique()),
        **attacks,
        "free_text": None,
    }
    save_privacy_report(folder, report)


def _attacks(folder: Path, questions: pl.DataFrame) -> Attacks:
    """Attacks by all features, if the folder has them, and by those of the tier `coarse`.

    Only on questions with behavior; the others would reveal nothing but the lengths of texts.
    """
    ids = questions.select("question_id", "conversation_id")
    found: Attacks = {}
    if (folder / "data" / "features").is_dir():
        features = load_config(folder, "features")
        read = features.filter(pl.any_horizontal(pl.col("^(mouse|gaze)_on_text$").is_not_null()))
        every = [name for name, type_ in features.schema.items() if type_ == pl.Float64]
        found["reidentification"] = reidentify(read.join(ids, on="question_id"), every)
        left = coarse(features.filter(mode="pairwise"))
    else:
        left = load_config(folder, "coarse")
    read = left.filter(pl.any_horizontal(pl.col(list(STEPS)).is_not_null()))
    found["reidentification_coarse"] = reidentify(read.join(ids, on="question_id"), list(COARSE))
    return found


def _demographics(release: Release, workers: pl.Series) -> Demographics | None:
    """How well the release's table tells workers apart; None if it lacks the columns. No value of a row is kept."""
    table = read_table(release, "record_info_table.csv")
    if not {*_DEMOGRAPHICS} <= {*table.columns}:
        return None
    rows = (
        table.select(pl.col("user_id").alias("worker_id"), *_DEMOGRAPHICS)
        .filter(pl.col("worker_id").is_in(workers.to_list()) & pl.any_horizontal(pl.col(_DEMOGRAPHICS).is_not_null()))
        .unique("worker_id", keep="first", maintain_order=True)
    )
    return {
        "workers": rows.height,
        "each": [k_anonymity(rows, list(names)) for names in (_DEMOGRAPHICS, _FEW_DEMOGRAPHICS)],
        "statement": _DEMOGRAPHICS_STATEMENT,
    }


def _questions(folder: Path) -> pl.DataFrame:
    """`question_id`, `worker_id`, `conversation_id` and the quasi-identifiers, for questions of both modes."""
    wanted = ["question_id", "worker_id", "conversation_id", "task_id", "asked_at"]
    rows = pl.concat([load_config(folder, mode).select(wanted) for mode in MODES])
    return rows.select(
        "question_id",
        "worker_id",
        "conversation_id",
        pl.col("asked_at").dt.date().alias(DAY),
        pl.col("task_id").alias(TASK),
        pl.len().over("worker_id").alias(QUESTIONS),
    )


def _recording(folder: Path, questions: pl.DataFrame) -> pl.DataFrame:
    """`_RECORDING` and the ids, one row per question with ticks."""
    size = pl.format("{}x{}", "viewport_width", "viewport_height").alias(VIEWPORT)
    read = scan_config(folder, "trajectories")
    return pl.concat([ticks.select("question_id", size, **_RECORDING) for ticks in read]).join(
        questions.select("question_id", "worker_id", "conversation_id"), on="question_id"
    )
