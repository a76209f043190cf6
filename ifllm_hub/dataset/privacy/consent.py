"""Who may be in a dataset: who consented and has not withdrawn."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.splits import assign_folds
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, read_parquet
from ifllm_hub.sources.ifllm.archive import Release
from ifllm_hub.sources.ifllm.questions import read_questions
from ifllm_hub.sources.ifllm.workers import consenting_workers, known_workers


@dataclass(frozen=True)
class Consented:
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


def apply_consent(release: Release, withdrawn: Collection[str] = ()) -> Consented:
    """Leave out who did not consent (their questions never come out of the tables) and who has withdrawn.

    Their behavior files are never read. Folds are dealt before, so that a withdrawal moves nobody else to another
    fold or split.

    Raises:
        IfllmError: a table is damaged.
    """
    whole = read_questions(release)
    gone = known_workers(release).intersection(withdrawn)
    workers = consenting_workers(release) - gone
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
    return Consented(
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
