"""The store -> a dataset folder laid out like the Hub repo, and rows for TRL."""

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import cast

from filelock import FileLock

from ifllm_hub import __version__
from ifllm_hub.collect.export.shards import SOURCES, ShardAccount, export_shard, export_shard_elsewhere
from ifllm_hub.collect.export.stored import stored_readings
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store, now_ms
from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.contents import check_rows
from ifllm_hub.dataset.layout import Shard
from ifllm_hub.dataset.manifest import MANIFEST, Collected, Received, read_manifest, write_manifest
from ifllm_hub.dataset.privacy.consent import check_workers
from ifllm_hub.dataset.withdrawal import drop_people, people_in
from ifllm_hub.engines.run import Engine, run_shards
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import clear_leftovers, link_or_copy, replacing_folder
from ifllm_hub.preferences.trl_rows import write_trl_rows
from ifllm_hub.terms import MODES, Advance


class TooFewPeople(IfllmError):
    """Too few people whose consent stands have readings."""


def export_dataset(
    store: Store,
    out: Path,
    pseudonyms: Pseudonyms,
    least_people: int = 1,
    shards: int = 1,
    engine: Engine = "local",
    address: str | None = None,
    advance: Advance | None = None,
) -> Collected:
    """Write the configs of the dataset, its card, and rows for TRL, for everybody whose consent stands.

    It holds only questions with a recording or a rating. Ids are pseudonyms. The store remembers the folder, so that a
    later withdrawal reaches it. Memory does not grow with the number of readings.

    Args:
        out: replaced as a whole if it is an earlier export; shards in which nothing changed are taken over from it.
        least_people: with fewer, nothing is written: a person who is nearly alone in a dataset is easily found.
        shards: files of each split of a config; a person is in one of them. With more than one, an export that was
            interrupted goes on where it stopped.
        engine: see `run_shards`, also for `address`; more than one process needs a store in PostgreSQL and a folder
            that all of them see under the same path.
        advance: called with the share done (0-1).

    Returns:
        The manifest, as in `out/manifest.json`.

    Raises:
        TooFewPeople: there is nothing to export, or only from too few people.
        IfllmError: a shard failed, the accounts do not balance, somebody without consent would be written, or `out`
            cannot be written.
    """
    out = out.resolve()
    if engine != "local":
        store.check_shares_snapshots()
    with writing_alone(out, shards > 1), replacing_folder(out, MANIFEST, private=True, resumed=shards > 1) as folder:
        store.note_export(out, now_ms())  # before the store is read: from now on a withdrawal knows the folder
        every = [Shard(number, shards) for number in range(shards)]
        for path in folder.glob("data/*/*.parquet"):  # of an interrupted export with another number of shards
            if not path.name.endswith(f"-of-{shards:05d}.parquet"):
                path.unlink()
        for path in folder.glob("data/.*"):
            shutil.rmtree(path)
        with ExitStack() as stack:
            task: Callable[[Shard], ShardAccount]
            if engine == "local":
                source = stack.enter_context(stored_readings(store, pseudonyms))
                inner = advance if shards == 1 else None
                task = partial(export_shard, source=source, folder=folder, earlier=out, advance=inner)
            else:
                snapshot = stack.enter_context(store.shared_snapshot())
                source = stack.enter_context(stored_readings(store, pseudonyms, snapshot))
                reading = partial(export_shard_elsewhere, database=store.url, snapshot=snapshot, key=pseudonyms.key)
                task = partial(reading, folder=folder, earlier=out)
            accounts = run_shards(task, every, engine, address, advance=advance if shards > 1 else None)
        gone = {pseudonyms.worker(person) for person in store.withdrawn()}
        removed = drop_people(folder, gone)  # who withdrew while this was written
        manifest = _manifest(accounts, removed)
        if manifest["people"] < max(1, least_people):
            shutil.rmtree(folder)
            raise TooFewPeople(
                f"The store has readings or ratings of {manifest['people']} people whose consent stands; "
                f"{max(1, least_people)} are needed. Nothing was written."
            )
        write_manifest(folder, manifest)
        check_rows(folder, manifest["questions"])
        check_workers(folder, source.workers - gone)
        write_card(folder)
        write_trl_rows(folder, SOURCES)
    store.erased(out, [worker for path, worker in store.erasures() if path == out])  # from the earlier export
    late = {pseudonyms.worker(person) for person in store.withdrawn()} - gone
    if late:  # withdrawn in the last moments
        with writing_alone(out):
            leave_out(out, late)
        store.erased(out, sorted(late))
    return manifest


def leave_out(folder: Path, workers: Collection[str]) -> int:
    """Rewrite an exported folder without some people, or delete it if nobody else is in it. The caller holds its lock.

    Only the shards that they are in are read and written.

    Returns:
        How many questions were removed.

    Raises:
        IfllmError: it cannot be read or written; it is then left as it was.
    """
    manifest = read_manifest(folder)
    if "collected" not in manifest:
        raise IfllmError(f"{folder}: is a built dataset, not an export. Move it to another place.")
    if not any(there for _, there in people_in(folder, workers)):
        return 0
    with replacing_folder(folder, MANIFEST, private=True) as partial:
        shutil.copytree(folder, partial, copy_function=link_or_copy, dirs_exist_ok=True)
        removed = drop_people(partial, workers)
        manifest.pop("free_text", None)  # counts of `ifllm scan`, which included everybody
        manifest["people"] -= removed["people"]
        manifest["conversations"] -= removed["conversations"]
        for mode in MODES:
            manifest["questions"][mode] -= removed[mode]
        gone = sum(removed[mode] for mode in MODES)
        manifest["erased_later"] += gone
        if manifest["people"]:
            write_manifest(partial, manifest)
            write_card(partial)
            write_trl_rows(partial, SOURCES)
    if not manifest["people"]:
        shutil.rmtree(folder)
    return gone


@contextmanager
def writing_alone(folder: Path, resumed: bool = False) -> Iterator[None]:
    """Wait until no other process or thread writes an exported folder, and clear away what killed ones left.

    Args:
        resumed: keep what of an interrupted export goes on.

    Raises:
        IfllmError: the folder it is in cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            clear_leftovers(folder, resumed)
            yield
    except PermissionError as error:
        raise IfllmError(
            f"{folder}: cannot be written ({error.strerror}). Choose a folder you may write to."
        ) from error


def _manifest(accounts: list[ShardAccount], removed: Counter[str]) -> Collected:
    counts = sum((Counter(account["counts"]) for account in accounts), Counter[str]())
    counts.subtract(removed)
    return {
        "collected": True,
        "ifllm_hub": __version__,
        "tier": "full",
        "people": counts["people"],
        "conversations": counts["conversations"],
        "questions": {"pairwise": counts["pairwise"], "pointwise": counts["pointwise"]},
        "erased_later": 0,
        "ticks": _received(account["ticks"] for account in accounts),
        "views": _received(account["views"] for account in accounts),
        "batches_of_wrong_clocks": counts["wrong_clocks"],
    }


def _received(statuses: Iterable[dict[str, int]]) -> Received:
    """How many came in, by status, of all shards."""
    together = sum(map(Counter[str], statuses), Counter[str]())
    return cast(Received, {"received": together.total(), **dict(sorted(together.items()))})
