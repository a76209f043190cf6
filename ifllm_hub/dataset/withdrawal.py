"""People -> out of a dataset folder: only the shards that they are in are read and written."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from ifllm_hub.dataset.layout import Shard, parquet_path, shards_of
from ifllm_hub.dataset.load import scan_config
from ifllm_hub.dataset.schema import SPLITS, arrow_schema, present_configs
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.terms import MODES


def people_in(folder: Path, workers: Collection[str]) -> Iterator[tuple[Shard, frozenset[str]]]:
    """The shards that people would be in, and who of them is.

    Args:
        workers: their ids; those of others are ignored.

    Raises:
        IfllmError: a file is missing or damaged.
    """
    wanted = pl.Series(list(workers), dtype=pl.String).implode()
    for shard in shards_of(folder):
        if not any(map(shard.has, workers)):
            continue
        found = (scan_config(folder, mode, ["worker_id"], shard=shard) for mode in MODES)
        ids = (rows["worker_id"] for rows in chain.from_iterable(found))
        yield shard, frozenset().union(*(part.filter(part.is_in(wanted)) for part in ids))


def drop_people(folder: Path, workers: Collection[str]) -> Counter[str]:
    """Rewrite the shards of a folder that some people are in, in all configs, without them.

    Files are replaced, not changed in place, but one after the other: nobody else may read the folder meanwhile.

    Returns:
        How many `people`, `conversations` and questions of each mode were removed.

    Raises:
        IfllmError: a file is missing, damaged, or cannot be written.
    """
    removed: Counter[str] = Counter()
    conversations: set[str] = set()
    configs = present_configs(folder)
    for shard, there in people_in(folder, workers):
        if not there:
            continue
        removed["people"] += len(there)
        theirs = pl.col("worker_id").is_in(there)
        for config in configs:
            scratch = folder / "data" / f".{config}"
            shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
            # An earlier version may have written fewer columns, and nobody stays in because of that.
            schema = pq.read_schema(parquet_path(folder, config, SPLITS[0], shard))
            whole = set(schema.names) >= set(arrow_schema(config).names)
            with closing(ConfigWriter(scratch, config, shard, None if whole else schema)) as writer:
                for rows in scan_config(folder, config, None if whole else schema.names, shard=shard):
                    writer.write(rows.filter(~theirs))
                    if config in MODES:
                        gone = rows.filter(theirs)["conversation_id"]
                        removed[config] += len(gone)
                        conversations.update(gone)
            for path in scratch.iterdir():
                path.replace(folder / "data" / config / path.name)
            scratch.rmdir()
    removed["conversations"] = len(conversations)
    return removed
