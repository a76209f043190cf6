"""Writes the Parquet files of configs: of a new dataset, or in place of those in a folder."""

import shutil
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.layout import WHOLE, Shard, bucket_of, shard_name, shards_of
from ifllm_hub.dataset.manifest import read_manifest
from ifllm_hub.dataset.privacy.report import is_unreported, read_privacy_report
from ifllm_hub.dataset.schema import (
    SPLITS,
    arrow_schema,
    label_source_of,
    preferences_config,
    present_configs,
)
from ifllm_hub.files import replacing_folder

_ROW_GROUP = {"trajectories": 100}
_DEFAULT_ROW_GROUP = 1_000


class ConfigWriter:
    """One Parquet file per split, in row groups of a fixed size, so that the bytes do not depend on chunking.

    Args:
        folder: of the config.
        shard: which of the config's shards the files are.
        schema: of files that an earlier version wrote; None: the config's.
    """

    def __init__(self, folder: Path, config: str, shard: Shard = WHOLE, schema: pa.Schema | None = None):
        self._schema = schema or arrow_schema(config)
        self._rows = _ROW_GROUP.get(config, _DEFAULT_ROW_GROUP)
        self._pending: dict[str, list[pa.Table]] = {split: [self._schema.empty_table()] for split in SPLITS}
        folder.mkdir(parents=True, exist_ok=True)
        self._files = {split: self._new_file(folder / shard_name(split, shard)) for split in SPLITS}

    def _new_file(self, path: Path) -> pq.ParquetWriter:
        path.unlink(missing_ok=True)  # another folder may share the file that is there
        return pq.ParquetWriter(
            path, self._schema, compression="zstd", use_content_defined_chunking=True, write_page_index=True
        )

    def write(self, rows: pl.DataFrame) -> None:
        for split in SPLITS:
            table = rows.filter(pl.col("split") == split).select(self._schema.names).to_arrow().cast(self._schema)
            self._pending[split].append(table)
            self._flush(split, whole=True)

    def _flush(self, split: str, whole: bool) -> None:
        table = pa.concat_tables(self._pending[split])
        while table.num_rows >= (self._rows if whole else 1):
            self._files[split].write_table(table.slice(0, self._rows).combine_chunks(), row_group_size=self._rows)
            table = table.slice(self._rows)
        self._pending[split] = [table]

    def close(self) -> None:
        for split, file in self._files.items():
            self._flush(split, whole=False)
            file.close()


def replace_preferences(folder: Path, rows: pl.DataFrame) -> None:
    """Write one config per label source into a dataset folder, in place of all earlier ones, and rewrite the card.

    Args:
        rows: of all label sources, with `split`.

    Raises:
        IfllmError: the folder is not a dataset, or cannot be written.
    """
    replace_configs(folder, by_label_source(rows), {name for name in present_configs(folder) if label_source_of(name)})


def by_label_source(rows: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """The rows of each config `preferences_<label source>`."""
    parts = rows.partition_by("label_source", maintain_order=True)
    return {preferences_config(part["label_source"][0]): part for part in parts}


def replace_configs(folder: Path, configs: dict[str, pl.DataFrame], earlier: Collection[str] = ()) -> None:
    """Write configs into a dataset folder, all of them before the first takes its place; rewrite the card, if any.

    Args:
        configs: the rows of each, with its columns and `split`.
        earlier: configs to delete unless they are written.

    Raises:
        IfllmError: the folder is not a dataset, or cannot be written.
    """
    # A folder from which no card can be made is refused before anything is written into it.
    has_card = not is_unreported(folder)
    if has_card and "release_sha256" in read_manifest(folder):
        read_privacy_report(folder)
    shards = shards_of(folder)
    with ExitStack() as stack:
        for config, rows in configs.items():
            place = replacing_folder(folder / "data" / config, shard_name(SPLITS[0], shards[0]))
            _write(stack.enter_context(place), config, rows, shards)
    for config in set(earlier).difference(configs):
        shutil.rmtree(folder / "data" / config)
    if has_card:
        # No figure shows preferences.
        write_card(folder, redraw=not all(map(label_source_of, configs)))


def _write(folder: Path, config: str, rows: pl.DataFrame, shards: Sequence[Shard]) -> None:
    """Rows without a worker, as labels from elsewhere may be, are in the shard of the empty id."""
    there: dict[Shard, list[str | None]] = {shard: [] for shard in shards}
    for worker in rows["worker_id"].unique():
        there[Shard(bucket_of(worker or "", len(shards)), len(shards))].append(worker)
    for shard, workers in there.items():
        with closing(ConfigWriter(folder, config, shard)) as writer:
            writer.write(rows.filter(pl.col("worker_id").is_in(workers, nulls_equal=True)))
