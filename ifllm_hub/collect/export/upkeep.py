"""Upkeep, at once and daily: remove people from exports, and delete old content."""

import asyncio
import logging
from collections.abc import Collection
from itertools import groupby
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store, now_ms
from ifllm_hub.errors import IfllmError

_log = logging.getLogger(__name__)
_DAY_SECONDS = 24 * 3600


def delete_person(store: Store, pseudonyms: Pseudonyms, person: str) -> list[str]:
    """Delete everything about a person, by the integrator's id of them, in the store and in exported folders.

    Returns:
        What was done, one sentence each.
    """
    pseudonym = pseudonyms.person(person)
    worker_id = pseudonyms.worker(pseudonym)
    batches = store.withdraw(pseudonym, worker_id, now_ms()).result()
    return [f"store: {batches} batches deleted; {worker_id} is listed as withdrawn", *erase_exports(store)]


def erase_exports(store: Store) -> list[str]:
    """Remove people from the folders that were exported with them; what fails stays noted and is retried daily.

    Returns:
        What was done to each folder, one sentence each.
    """
    store.forget_deleted_pages()
    done = []
    for folder, entries in groupby(store.erasures(), key=lambda erasure: erasure[0]):
        workers = [worker_id for _, worker_id in entries]
        try:
            questions = erase_from_folder(folder, workers)
        except IfllmError as error:
            _log.error("people could not be removed from an exported folder: %s", error)
            done.append(f"{folder}: failed, will be tried again ({error})")
            continue
        store.erased(folder, workers)
        done.append(
            f"{folder}: there is no export here any more; if it was moved or copied, delete the person there"
            if questions is None
            else f"{folder}: {questions} questions removed"
        )
    return done


def erase_from_folder(folder: Path, workers: Collection[str]) -> int | None:
    """Rewrite an exported folder without some people, or delete it if nobody else is in it.

    Returns:
        How many questions were removed; None if there is no export.

    Raises:
        IfllmError: it cannot be read or written. It is as it was, then.
    """
    from ifllm_hub.collect.export.dataset import leave_out, writing_alone

    if not folder.parent.is_dir():
        return None
    with writing_alone(folder):  # which deletes what is left of an interrupted export: they may be in it, too
        return leave_out(folder, workers) if (folder / "manifest.json").is_file() else None


def apply_retention(store: Store, days: int) -> dict[str, int]:
    """Delete from the store what is older than `days`; exported folders are datasets of their own and stay.

    Returns:
        How many rows of each table were deleted.
    """
    gone = store.expire(days, now_ms()).result()
    store.forget_deleted_pages()
    return gone


async def keep_up(store: Store, retention_days: int | None) -> None:
    """Now and daily, until cancelled: finish interrupted erasures, and apply retention."""
    while True:
        try:
            await asyncio.to_thread(erase_exports, store)
            if retention_days is not None:
                await asyncio.to_thread(apply_retention, store, retention_days)
        except SQLAlchemyError:
            _log.exception("upkeep failed; it will be tried again in a day")
        await asyncio.sleep(_DAY_SECONDS)
