"""One shard of an export: all that is exported of some people, written once and kept until that changes."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import polars as pl

from ifllm_hub import __version__
from ifllm_hub.collect.export.reading_time import LEAST_DWELL_MS, dwell_on_text
from ifllm_hub.collect.export.stored import StoredReadings, TickAccount, stored_readings
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store
from ifllm_hub.dataset.build import Part, write_parts
from ifllm_hub.dataset.layout import bucket_of
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.preferences.labels import external_rows, preference_rows
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.reward.protocol.pairs import pairs_of
from ifllm_hub.terms import Advance

# The label source of the shipped reward model; `forest` is a model fitted on the dataset itself.
SHIPPED = "shipped_forest"
SOURCES = ("explicit", SHIPPED)
# Conversations in memory at a time.
_CHUNK = 256
# Within an exported folder; the name keeps it from being published.
_ACCOUNTS = ".shards"


@dataclass(frozen=True)
class ShardAccount:
    """What was written of the people of a shard, and what of.

    Attributes:
        state: the sha256 of all that the files were made from.
        counts: of `people`, `conversations`, questions (`pairwise`, `pointwise`), and batches with `wrong_clocks`.
        ticks: how many were received, by status.
    """

    state: str
    counts: dict[str, int]
    ticks: dict[str, int]


@dataclass(frozen=True)
class Shard:
    """A shard to write.

    Attributes:
        folder: of the export, not yet in its place.
        earlier: an export that may have the same shard.
    """

    folder: Path
    earlier: Path
    number: int
    shards: int

    def __str__(self) -> str:
        return f"{self.number:05d}-of-{self.shards:05d}"

    def files(self, folder: Path) -> Iterator[Path]:
        """Its files in one of the folders, in all configs."""
        return folder.glob(f"data/*/*-{self}.parquet")

    def account(self, folder: Path) -> ShardAccount | None:
        """What was written of it in one of the folders; None if it is not whole there."""
        path = self._account_path(folder)
        try:
            return ShardAccount(**read_json(path)) if path.is_file() else None
        except (IfllmError, TypeError):
            return None  # damaged, or of another version

    def settle(self, account: ShardAccount) -> ShardAccount:
        """Note that its files are whole, once they are."""
        path = self._account_path(self.folder)
        path.parent.mkdir(exist_ok=True, mode=0o700)
        write_atomically(path, json.dumps(asdict(account)), private=True)
        return account

    def _account_path(self, folder: Path) -> Path:
        return folder / _ACCOUNTS / f"{self}.json"


def export_shard(shard: Shard, source: StoredReadings, advance: Advance | None = None) -> ShardAccount:
    """Write a shard, unless it is there already, in this folder or an earlier one, and nothing of its people changed.

    Raises:
        IfllmError: a file cannot be written.
    """
    people = [worker for worker in source.people if bucket_of(worker, shard.shards) == shard.number]
    state = hashlib.sha256(f"{__version__} {_model_sha256()} {source.state(people)}".encode()).hexdigest()
    for folder in (shard.folder, shard.earlier):
        known = shard.account(folder)
        if known is not None and known.state == state:
            _link(shard.files(folder), folder, shard.folder)
            return shard.settle(known)
    counts: Counter[str] = Counter()
    ticks: Counter[str] = Counter()
    with ExitStack() as stack:
        writers = {
            label_source: stack.enter_context(
                closing(ConfigWriter(shard.folder / "data" / config, config, shard.number, shard.shards))
            )
            for label_source in SOURCES
            for config in [preferences_config(label_source)]
        }
        parts = write_parts(source, shard.folder, "full", _CHUNK, shard.number, shard.shards, advance)
        for part in parts:
            for label_source, rows in _labeled(part).items():
                writers[label_source].write(rows)
            counts.update(_counts(part.questions))
            counts["wrong_clocks"] += part.account.wrong_clocks
            ticks.update(part.account.statuses)
    return shard.settle(ShardAccount(state, dict(counts), dict(ticks)))


def export_shard_elsewhere(shard: Shard, database: str, snapshot: str, key: bytes) -> ShardAccount:
    """The same in another process, which reads the same snapshot of a PostgreSQL store; see `Store.shared_snapshot`.

    Args:
        key: of the pseudonyms.

    Raises:
        IfllmError: the store cannot be opened, or a file cannot be written.
    """
    with closing(Store(database)) as store, stored_readings(store, Pseudonyms(key), snapshot) as source:
        return export_shard(shard, source)


def _counts(questions: pl.DataFrame) -> dict[str, int]:
    """People are never in two parts."""
    return {
        "people": questions["worker_id"].n_unique(),
        "conversations": questions["conversation_id"].n_unique(),
        "pairwise": questions.filter(mode="pairwise").height,
        "pointwise": questions.filter(mode="pointwise").height,
    }


def _labeled(part: Part[TickAccount]) -> dict[str, pl.DataFrame]:
    """Labels that need no training: people's own, and the shipped model's for pairs that were read."""
    pairs = pairs_of(part.questions.filter(mode="pairwise"), part.features)
    read = pairs.filter(dwell_on_text() >= LEAST_DWELL_MS)
    scored = read.rows.select("question_id", probability=pl.Series(_model().score(read.rows), dtype=pl.Float64))
    return {
        "explicit": preference_rows(pairs, all_workers=True, sources=("explicit",)),
        SHIPPED: external_rows(read, scored, SHIPPED, all_workers=True),
    }


@cache
def _model() -> ImplicitFeedbackReward:
    return ImplicitFeedbackReward.from_pretrained(default_model())


@cache
def _model_sha256() -> str:
    digest = hashlib.sha256()
    for path in sorted(_model().folder.iterdir()):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _link(files: Iterable[Path], folder: Path, other: Path) -> None:
    """Our files are replaced and never changed in place, so two folders may share them."""
    if folder == other:
        return
    for path in files:
        copy = other / path.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        os.link(path, copy)
