"""Who may be in a dataset, what a tier holds, and how well the people in it can still be told apart."""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.manifest import REPORT, TIERS, read_manifest
from ifllm_hub.dataset.privacy.coarse import COARSE, STEPS, coarse
from ifllm_hub.dataset.privacy.disclosure import (
    CANNOT_FIND,
    find_personal_data,
    free_text,
    k_anonymity,
    reidentify,
    scanner_info,
)
from ifllm_hub.dataset.splits import assign_folds
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, read_parquet, write_atomically
from ifllm_hub.sources.ifllm.archive import TABLES, Advance, Release
from ifllm_hub.sources.ifllm.questions import read_questions

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
# Columns of the release's table of workers, which is public and has the ids that this dataset has.
_DEMOGRAPHICS = ("age", "location", "education", "race", "gender")
_FEW_DEMOGRAPHICS = ("age", "location", "gender")
_DEMOGRAPHICS_STATEMENT = (
    "In no config, but one join away: `worker_id` is `user_id` in the release's record_info_table.csv, which has these "
    "columns. New ids would hide nobody, since question ids, times and texts lead to the same rows."
)
# Columns of the release's tables that are in a config (as worker_id, task_id), or true of everybody in it.
_KEPT_COLUMNS = {"user_id", "task_id", "consent"}
# What the ticks tell of the person's computer and posture, and nothing of what was read.
_RECORDING = {
    "viewport_width": pl.col("viewport_width"),
    "viewport_height": pl.col("viewport_height"),
    "interval": pl.col("t").list.diff().list.median(),
    "interval_sd": pl.col("t").list.diff().list.std(),
    "face_ok": pl.col("face_ok").cast(pl.List(pl.Float64)).list.mean(),
    "gaze_x": pl.col("gaze_x").list.median(),
    "gaze_y": pl.col("gaze_y").list.median(),
}


@dataclass(frozen=True)
class Admitted:
    """What may be built from a release.

    Attributes:
        release: with the behavior folders of `workers` only.
        questions: theirs, cleaned, with folds.
        counts: of the cleaning, as if nobody else had been in the tables.
        workers: who consented and did not withdraw.
        left_out: entries of the manifest about the others, without their ids.
        unanswered: see `questions.Cleaned`.
    """

    release: Release
    questions: pl.DataFrame
    counts: dict[str, int]
    workers: frozenset[str]
    left_out: dict[str, dict[str, int]]
    unanswered: pl.DataFrame


def admit(release: Release, withdrawn: Collection[str] = ()) -> Admitted:
    """Leave out who did not consent (their questions never come out of the tables) and who has withdrawn.

    Their behavior files are never read. Folds are dealt before, so that a withdrawal moves nobody else to another
    fold or split.

    Raises:
        IfllmError: a table is damaged.
    """
    whole = read_questions(release)
    gone = known_workers(release).intersection(withdrawn)
    workers = _consenting(release) - gone
    questions = assign_folds(whole.questions, grows=False).filter(~pl.col("worker_id").is_in(gone))
    if questions.is_empty():
        raise IfllmError(f"{release.root}: no question is left of a worker who consented and has not withdrawn.")
    recorded = [task.worker_id for task in release.tasks]
    left_out = {
        "withdrawn": {
            "listed": len(set(withdrawn)),
            "workers": len(gone),
            "questions": whole.questions.height - questions.height,
        },
        "conversations_not_read": {
            "withdrawn": sum(worker in gone for worker in recorded),
            "without_consent": sum(worker not in gone | workers for worker in recorded),
        },
    }
    return Admitted(
        replace(release, tasks=tuple(task for task in release.tasks if task.worker_id in workers)),
        questions,
        read_questions(release, leave_out=gone).counts if gone else whole.counts,
        workers,
        left_out,
        whole.unanswered,
    )


def read_withdrawn(path: Path) -> frozenset[str]:
    """Worker ids, one a line; what follows a `#` is a comment.

    Raises:
        IfllmError: the file cannot be read, or a line holds more than one id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IfllmError(f"{path}: cannot be read ({error}). Give a UTF-8 text file, one worker id a line.") from error
    ids = [line.split("#")[0].strip() for line in lines]
    for number, worker in enumerate(ids, start=1):
        if len(worker.split()) > 1 or "," in worker:
            raise IfllmError(f"{path}, line {number}: more than one worker id. Write each on a line of its own.")
    return frozenset(filter(None, ids))


def known_workers(release: Release) -> frozenset[str]:
    """The ids of everybody in the release's tables or behavior folders.

    Raises:
        IfllmError: a table cannot be read.
    """
    tables = (_table(release, name)["user_id"].drop_nulls() for name in TABLES)
    return frozenset(task.worker_id for task in release.tasks).union(*tables)


def check_workers(folder: Path, workers: Collection[str]) -> None:
    """The last gate: read what was written and refuse it if it names anybody else.

    Args:
        workers: who may be named.

    Raises:
        IfllmError: somebody else is in a config, in the manifest or in the quarantine list.
    """
    manifest, quarantine = folder / "manifest.json", folder / "quarantine.csv"
    named = {
        path: read_parquet(path, ["worker_id"])["worker_id"].to_list()
        for path in sorted(folder.glob("data/*/*.parquet"))
    }
    # In these, files go by "worker/task/name".
    named[manifest] = [entry["file"].split("/")[0] for entry in read_json(manifest)["files"]]
    named[quarantine] = [file.split("/")[0] for file in pl.read_csv(quarantine, glob=False)["file"].cast(pl.String)]
    for path, ids in named.items():
        others = set(ids).difference(workers)
        if others:
            raise IfllmError(
                f"{path.relative_to(folder)}: would name {len(others)} workers who did not consent or have withdrawn. "
                "Nothing was written; this is a fault of ifllm_hub, please report it."
            )


def write_privacy_report(folder: Path, release: Release) -> None:
    """Write `privacy_report.json` about a folder with the manifest and configs; the same bytes for the same content.

    Shares are of workers (k-anonymity) or of conversations (re-identification), rounded to four places.

    Raises:
        IfllmError: a config or the manifest is missing or damaged.
    """
    manifest = read_manifest(folder)
    questions = _questions(folder)
    known, attacks = [DAY, TASK, QUESTIONS], _attacks(folder, questions)
    if "trajectories" in TIERS[manifest["tier"]]:
        recording = _recording(folder, questions)
        attacks["reidentification_by_recording"] = reidentify(recording, list(_RECORDING))
        questions = questions.join(recording.select("question_id", VIEWPORT), on="question_id", how="left")
        known.append(VIEWPORT)
    source = [name for table in TABLES[1:] for name in _table(release, table).columns]
    report = {
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
    _write_json(folder / REPORT, report)


def scan_dataset(folder: Path, out: Path, show_text: bool = False, advance: Advance | None = None) -> pl.DataFrame:
    """Search queries and answers for personal data: a list to review in `out`, and counts in the report and the card.

    Args:
        folder: a dataset folder with a privacy report, or one that a collector exported: its counts go to the manifest.
        out: CSV file to write, outside the folder: `config`, `question_id`, `column`, `entity`, `score` (0-1), `start`
            and `end` (code points).
        show_text: add the matched `text`, and with it the personal data, to the list.
        advance: called with the share done (0-1).

    Returns:
        The list, with `text`.

    Raises:
        IfllmError: the extra `privacy` is not installed, the folder is not a dataset, or `out` cannot be written or
            would be published with the folder.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise IfllmError(f"{out}: lies in the dataset folder and would be published with it. Choose another place.")
    is_collected = "collected" in read_json(folder / "manifest.json")
    path = folder / ("manifest.json" if is_collected else REPORT)
    report = read_json(path)
    how = scanner_info()
    texts = free_text(folder)
    findings = find_personal_data(texts, advance)
    write_atomically(out, findings.drop([] if show_text else "text").write_csv())
    counts = findings.group_by("column", "entity").len("found").sort("column", "entity").to_dicts()
    report["free_text"] = {**how, "cannot_find": CANNOT_FIND, "texts": texts.height, "found": counts}
    _write_json(path, report)
    write_card(folder)
    return findings


def _attacks(folder: Path, questions: pl.DataFrame) -> dict[str, Any]:
    """By all features, where they are there, and by those of the tier `coarse`.

    Of questions with behavior; the others would only tell the lengths of texts.
    """
    ids = questions.select("question_id", "conversation_id")
    found: dict[str, Any] = {}
    if (folder / "data" / "features").is_dir():
        features = load_config(folder, "features")
        read = features.filter(pl.any_horizontal(pl.col("^(mouse|gaze)_on_text$").is_not_null()))
        every = [name for name, type_ in features.schema.items() if type_ == pl.Float64]
        found["reidentification"] = reidentify(read.join(ids, on="question_id"), every)
        left = coarse(features.filter(mode="pairwise"))
    else:
        left = load_config(folder, "coarse")
    read = left.filter(pl.any_horizontal(pl.col(list(STEPS)).is_not_null()))
    return {**found, "reidentification_coarse": reidentify(read.join(ids, on="question_id"), list(COARSE))}


def _demographics(release: Release, workers: pl.Series) -> dict[str, Any] | None:
    """How many workers the release's table tells apart; None where it has no such columns. Nothing of a row is kept."""
    table = _table(release, "record_info_table.csv")
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
    """`question_id`, `worker_id`, `conversation_id` and the quasi-identifiers of both kinds of questions."""
    wanted = ["question_id", "worker_id", "conversation_id", "task_id", "asked_at"]
    rows = pl.concat([load_config(folder, mode).select(wanted) for mode in ("pairwise", "pointwise")])
    return rows.select(
        "question_id",
        "worker_id",
        "conversation_id",
        pl.col("asked_at").dt.date().alias(DAY),
        pl.col("task_id").alias(TASK),
        pl.len().over("worker_id").alias(QUESTIONS),
    )


def _recording(folder: Path, questions: pl.DataFrame) -> pl.DataFrame:
    """`_RECORDING` and the ids, a row a question with ticks."""
    ticks = load_config(folder, "trajectories")
    size = pl.format("{}x{}", "viewport_width", "viewport_height").alias(VIEWPORT)
    return ticks.select("question_id", size, **_RECORDING).join(
        questions.select("question_id", "worker_id", "conversation_id"), on="question_id"
    )


def _consenting(release: Release) -> frozenset[str]:
    """Read from the table once more, so that one fault in the cleaning cannot hide another."""
    yes = (pl.col("consent") == "1").fill_null(False).all()
    return frozenset(_table(release, "record_info_table.csv").group_by("user_id").agg(yes=yes).filter("yes")["user_id"])


def _table(release: Release, name: str) -> pl.DataFrame:
    """A table of the release, every column as text."""
    try:
        return pl.read_csv(release.root / name, infer_schema=False, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IfllmError(f"{release.root / name}: cannot be read ({error}). Unpack the release again.") from error


def _write_json(path: Path, content: Any) -> None:
    write_atomically(path, json.dumps(content, indent=2) + "\n")
