"""Who may be in a dataset: workers who consented and have not withdrawn."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.manifest import MANIFEST, LeftOut, read_manifest
from ifllm_hub.dataset.splits import assign_folds
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_parquet
from ifllm_hub.sources.ifllm.study import Study, known_workers


@dataclass(frozen=True)
class Consented:
    """What may be built from a release.

    Attributes:
        source: the study without those who have withdrawn, its questions with folds.
        left_out: the manifest's entries about the others, without their ids.
    """

    source: Study
    left_out: LeftOut


def apply_consent(study: Study, withdrawn: Collection[str] = ()) -> Consented:
    """Leave out workers who have withdrawn; a `Study` has none who did not consent.

    Folds are dealt first, so that a withdrawal moves nobody else to another fold or split.

    Raises:
        IfllmError: nobody is left, or a table is damaged.
    """
    release = study.release
    gone = known_workers(release).intersection(withdrawn)
    questions = assign_folds(study.questions, grows=False).filter(~pl.col("worker_id").is_in(gone))
    if questions.is_empty():
        raise IfllmError(f"{release.root}: no question is left by a worker who consented and has not withdrawn.")
    recorded = [task.worker_id for task in release.tasks]
    left_out: LeftOut = {
        "withdrawn": {
            "listed": len(set(withdrawn)),
            "workers": len(gone),
            "questions": study.questions.height - questions.height,
        },
        "conversations_not_read": {
            "withdrawn": sum(worker in gone for worker in recorded),
            "without_consent": sum(worker not in gone | study.workers for worker in recorded),
        },
    }
    return Consented(replace(study.without(gone), questions=questions), left_out)


def read_withdrawn(path: Path) -> frozenset[str]:
    """Worker ids, one per line; a `#` starts a comment.

    Raises:
        IfllmError: the file cannot be read, or a line holds more than one id.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise IfllmError(
            f"{path}: cannot be read ({error}). Give a UTF-8 text file, one worker id per line."
        ) from error
    ids = [line.split("#")[0].strip() for line in lines]
    for number, worker in enumerate(ids, start=1):
        if len(worker.split()) > 1 or "," in worker:
            raise IfllmError(f"{path}, line {number}: more than one worker id. Write each on a line of its own.")
    return frozenset(filter(None, ids))


def check_workers(folder: Path, workers: Collection[str]) -> None:
    """The last check: read back what was written, and refuse it if it names anybody else.

    Args:
        workers: who may be named.

    Raises:
        IfllmError: somebody else is in a config, in the manifest or in the quarantine list.
    """
    manifest, quarantine = read_manifest(folder), folder / "quarantine.csv"
    named = {
        path: read_parquet(path, ["worker_id"])["worker_id"].unique().to_list()
        for path in sorted(folder.glob("data/*/*.parquet"))
    }
    if "release_sha256" in manifest:  # these name files as "worker/task/name"
        named[folder / MANIFEST] = [entry["file"].split("/")[0] for entry in manifest["files"]]
        named[quarantine] = [file.split("/")[0] for file in pl.read_csv(quarantine, glob=False)["file"].cast(pl.String)]
    for path, ids in named.items():
        others = set(ids).difference(workers)
        if others:
            raise IfllmError(
                f"{path.relative_to(folder)}: would name {len(others)} workers who did not consent or have withdrawn. "
                "Nothing was written; this is a fault of ifllm_hub, please report it."
            )
