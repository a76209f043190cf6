"""What must be done after the fact: people taken out of what was exported, old content deleted, both daily."""

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
        What was done, a sentence each.
    """
    pseudonym = pseudonyms.person(person)
    worker_id = pseudonyms.worker(pseudonym)
    batches = store.withdraw(pseudonym, worker_id, now_ms()).result()
    return [f"store: {batches} batches deleted; {worker_id} is on the list of the withdrawn", *erase_exports(store)]


def erase_exports(store: Store) -> list[str]:
    """Take people out of the folders that were exported with them; what fails stays noted and is tried again daily.

    Returns:
        What was done to each folder, a sentence each.
    """
    store.forget_deleted_pages()
    done = []
    for folder, entries in groupby(store.erasures(), key=lambda erasure: erasure[0]):
        workers = [worker_id for _, worker_id in entries]
        try:
            questions = erase_from_folder(folder, workers)
        except IfllmError as error:
            _log.error("people could not be taken out of an exported folder: %s", error)
            done.append(f"{folder}: failed, will be tried again ({error})")
            continue
        store.erased(folder, workers)
        done.append(
            f"{folder}: no export is there any more; if it was moved or copied, delete them there"
            if questions is None
            else f"{folder}: {questions} questions taken out"
        )
    return done


def erase_from_folder(folder: Path, workers: Collection[str]) -> int | None:
    """Write an exported folder anew without some people; it vanishes if nobody else is in it.

    Returns:
        How many questions were taken out; None where there is no export.

    Raises:
        IfllmError: it cannot be read or written. It is as it was, then.
    """
    from ifllm_hub.collect.export.dataset import leave_out, locked

    if not folder.parent.is_dir():
        return None
    with locked(folder):
        return leave_out(folder, workers) if (folder / "manifest.json").is_file() else None


def apply_retention(store: Store, days: int) -> dict[str, int]:
    """Delete from the store what is older than so many days; exported folders are datasets of their own and stay.

    Returns:
        How many rows of each table went.
    """
    gone = store.expire(days, now_ms()).result()
    store.forget_deleted_pages()
    return gone


async def keep_up(store: Store, retention_days: int | None) -> None:
    """Now and daily, until cancelled: erasures that were cut off, and retention."""
    while True:
        try:
            await asyncio.to_thread(erase_exports, store)
            if retention_days is not None:
                await asyncio.to_thread(apply_retention, store, retention_days)
        except SQLAlchemyError:
            _log.exception("upkeep failed; it is tried again in a day")
        await asyncio.sleep(_DAY_SECONDS)
