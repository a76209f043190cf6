"""One shard of an export: all that is exported of some people, written once and kept until that changes."""

import hashlib
from collections import Counter
from contextlib import ExitStack, closing
from functools import cache, partial
from pathlib import Path
from typing import TypedDict, cast

import polars as pl

from ifllm_hub import __version__
from ifllm_hub.collect.export.reading_time import LEAST_DWELL_MS, dwell_on_text
from ifllm_hub.collect.export.signals import SIGNALS
from ifllm_hub.collect.export.stored import StoredReadings, TickAccount, stored_readings
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store
from ifllm_hub.dataset.build import Part, write_parts
from ifllm_hub.dataset.layout import Shard, parquet_path
from ifllm_hub.dataset.manifest import TIERS
from ifllm_hub.dataset.schema import SPLITS, preferences_config
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.engines.accounts import take_over, unless_done
from ifllm_hub.preferences.labels import external_rows, preference_rows
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.reward.protocol.pairs import pairs_of
from ifllm_hub.sources.thumbs import preferred_by_thumbs
from ifllm_hub.terms import Advance

# The label source of the shipped reward model; `forest` is a model fitted on the dataset itself.
SHIPPED = "shipped_forest"
THUMBS = "thumbs"
SOURCES = ("explicit", THUMBS, SHIPPED)
_TIER = "full"
# Conversations in memory at a time.
_CHUNK = 128


class ShardAccount(TypedDict):
    """What was written of the people of a shard.

    Attributes:
        counts: of `people`, `conversations`, questions (`pairwise`, `pointwise`), and batches with `wrong_clocks`.
        ticks: how many were received, by status.
        views: likewise, of what was on the screen.
    """

    counts: dict[str, int]
    ticks: dict[str, int]
    views: dict[str, int]


def export_shard(
    shard: Shard, source: StoredReadings, folder: Path, earlier: Path, advance: Advance | None = None
) -> ShardAccount:
    """Write a shard, unless it is there already, here or in an earlier export, and nothing of its people has changed.

    Args:
        folder: of the export, not yet in its place.
        earlier: an export that may have the same shard.

    Raises:
        IfllmError: a file cannot be written.
    """
    people = [worker for worker in source.people if shard.has(worker)]
    made_of = {"ifllm_hub": __version__, "model": _model_sha256(), "people": source.state(people)}
    files = [
        parquet_path(Path(), config, split, shard).as_posix()
        for config in (*TIERS[_TIER], SIGNALS, *map(preferences_config, SOURCES))
        for split in SPLITS
    ]
    take_over(earlier, folder, str(shard), made_of, files)
    work = partial(_write, shard, source, folder, advance)
    return cast(ShardAccount, unless_done(str(folder), str(shard), made_of, files, work))


def export_shard_elsewhere(
    shard: Shard, database: str, snapshot: str, key: bytes, folder: Path, earlier: Path
) -> ShardAccount:
    """The same in another process, which reads the same snapshot of a PostgreSQL store; see `Store.shared_snapshot`.

    Args:
        key: of the pseudonyms.

    Raises:
        IfllmError: the store cannot be opened, or a file cannot be written.
    """
    with closing(Store(database)) as store, stored_readings(store, Pseudonyms(key), snapshot) as source:
        return export_shard(shard, source, folder, earlier)


def _write(shard: Shard, source: StoredReadings, folder: Path, advance: Advance | None) -> ShardAccount:
    counts: Counter[str] = Counter()
    ticks: Counter[str] = Counter()
    views: Counter[str] = Counter()
    with ExitStack() as stack:
        writers = {
            config: stack.enter_context(closing(ConfigWriter(folder / "data" / config, config, shard)))
            for config in (SIGNALS, *map(preferences_config, SOURCES))
        }
        for part in write_parts(source, folder, _TIER, _CHUNK, shard, advance):
            writers[SIGNALS].write(part.questions)
            for label_source, rows in _labeled(part).items():
                writers[preferences_config(label_source)].write(rows)
            counts.update(_counts(part.questions))
            counts["wrong_clocks"] += part.account.wrong_clocks
            ticks.update(part.account.statuses)
            views.update(part.account.view_statuses)
    return {"counts": dict(counts), "ticks": dict(ticks), "views": dict(views)}


def _counts(questions: pl.DataFrame) -> dict[str, int]:
    """People are never in two parts."""
    return {
        "people": questions["worker_id"].n_unique(),
        "conversations": questions["conversation_id"].n_unique(),
        "pairwise": questions.filter(mode="pairwise").height,
        "pointwise": questions.filter(mode="pointwise").height,
    }


def _labeled(part: Part[TickAccount]) -> dict[str, pl.DataFrame]:
    """Labels that need no training: people's own, by rating and by thumb, and the shipped model's for pairs that were
    read."""
    pairs = pairs_of(part.questions.filter(mode="pairwise"), part.features)
    read = pairs.filter(dwell_on_text() >= LEAST_DWELL_MS)
    scored = read.rows.select("question_id", probability=pl.Series(_model().score(read.rows), dtype=pl.Float64))
    preferred = preferred_by_thumbs(pl.col("thumb_left"), pl.col("thumb_right"))
    thumbs = pairs.rows.select("question_id", probability=(preferred == "left").cast(pl.Float64)).drop_nulls()
    return {
        "explicit": preference_rows(pairs, all_workers=True, sources=("explicit",), on_screen=True),
        THUMBS: external_rows(pairs, thumbs, THUMBS, all_workers=True, on_screen=True),
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
