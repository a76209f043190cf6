"""Lays a dataset out by person, whatever its files are: the only step for which rows have to move between files.

It is done through files, in two rounds of tasks, so that a lost worker costs a task. First every file of the source is
cut into one piece a shard, some rows at a time; then every shard is put together from its pieces.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ifllm_hub.dataset.layout import Shard, bucket_of, shard_name
from ifllm_hub.dataset.load import regrouped, scan_file
from ifllm_hub.dataset.schema import SPLITS, arrow_schema, columns
from ifllm_hub.dataset.splits import split_of
from ifllm_hub.dataset.writers import ConfigWriter
from ifllm_hub.engines.accounts import unless_done
from ifllm_hub.engines.places import at, files_in, locked, opened, read_json, remove, resolved, staged, write_json
from ifllm_hub.engines.run import Engine, run_shards
from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import Advance

# What a layout is of, and its rows; written last.
SUMMARY = "partition.json"
# Bytes of rows that are cut into pieces together.
_CHUNK = 64 << 20
_PIECES = "pieces"
# Rows that are put in order together: not all of a shard, so that it is in memory once.
_SORTED = 1_000


@dataclass(frozen=True)
class _Input:
    """A file of the source, with what changes with its content."""

    config: str
    number: int
    file: str
    mark: str

    def __str__(self) -> str:
        return self.file


@dataclass(frozen=True)
class _Target:
    """A shard of a config, and of how many rows it is to be, by the piece that each is from."""

    config: str
    shard: Shard
    pieces: Mapping[str, int]
    marks: Sequence[str]

    def __str__(self) -> str:
        return f"{self.config} {self.shard}"


def partition_dataset(
    source: str | Path,
    out: str | Path,
    shards: int,
    engine: Engine = "local",
    address: str | None = None,
    advance: Advance | None = None,
) -> dict[str, int]:
    """Lay rows out so that all of a person's lie in one shard, sorted by `worker_id` and `question_id`.

    A row's split is that of its column `split`, else that by which its file is named (`train-7.parquet`), else a hash
    of the worker's id, as in a dataset that grows.

    Args:
        source: a folder or address with `data/<config>/`, or else with trajectories; in Parquet files of any name.
        out: folder or address to write; a second run does only what is missing.
        shards: of each config; 25,000 to 50,000 readings a shard are a good size.
        engine: see `run_shards`, also for `address` and `advance`.

    Returns:
        The number of rows of each config.

    Raises:
        IfllmError: there are no rows, a file is damaged or lacks columns, a question has two rows in a shard, a person
            is in both splits, rows got lost, or somebody else is writing to `out`.

    Examples:
        >>> from ifllm_hub.dataset.partition import partition_dataset
        >>> rows = partition_dataset("ifllm", "by-person", shards=4)
        >>> from ifllm_hub.dataset.load import load_config
        >>> load_config("by-person", "trajectories").height == rows["trajectories"]
        True
    """
    place = resolved(out)
    inputs = _inputs(resolved(source), place)
    asked = {"shards": shards, "files": {one.file: one.mark for one in inputs}}
    with locked(place):
        done, there = read_json(at(place, SUMMARY)), _laid_out(place, shards)
        if done and done["inputs"] == asked and len(there) == shards * len(done["rows"]) * len(SPLITS):
            return done["rows"]
        remove(at(place, SUMMARY))
        for config in {file.split("/")[0] for file in there} - {one.config for one in inputs}:
            remove(at(place, "data", config))  # the source has it no longer
        half = (lambda share: advance(share / 2)) if advance else None
        cut = run_shards(partial(_cut, place, shards), inputs, engine, address, advance=half)
        targets = _targets(inputs, cut, shards)
        rest = (lambda share: advance((1 + share) / 2)) if advance else None
        gathered = run_shards(partial(_gather, place), targets, engine, address, advance=rest)
        rows = dict.fromkeys((one.config for one in inputs), 0)
        for target, count in zip(targets, gathered, strict=True):
            rows[target.config] += count
        if sum(rows.values()) != sum(map(sum, cut)):
            raise IfllmError(f"{place}: rows got lost. This is a fault of ifllm_hub, please report it.")
        write_json(place, SUMMARY, {"inputs": asked, "rows": rows})
        remove(at(place, _PIECES))
    return rows


def _inputs(source: str, out: str) -> list[_Input]:
    if at(out, "").startswith(at(source, "")):
        raise IfllmError(f"{out}: is in {source}, whose files are read. Choose another folder.")
    files = files_in(source, ".parquet")
    laid_out = {file: mark for file, mark in files.items() if re.fullmatch(r"data/[^/]+/.+", file)}
    inputs = [
        _Input(file.split("/")[1] if laid_out else "trajectories", number, at(source, file), mark)
        for number, (file, mark) in enumerate((laid_out or files).items())
    ]
    if not inputs:
        raise IfllmError(
            f"{source}: is not there, or has no Parquet files. Give a folder with trajectories, or with data/<config>/."
        )
    for one in inputs:
        columns(one.config)  # refuses what is none
    return inputs


def _laid_out(out: str, shards: int) -> list[str]:
    """The files of an earlier run, of the same layout."""
    files = list(files_in(at(out, "data"), ".parquet"))
    for file in files:
        if not file.endswith(f"-of-{shards:05d}.parquet"):
            raise IfllmError(f"{out}: holds another layout ({file}). Choose another folder, or delete it.")
    return files


def _pieces(one: _Input) -> str:
    return f"{_PIECES}/{one.config}-{one.number:05d}.arrow"


def _cut(out: str, shards: int, one: _Input) -> list[int]:
    """Cut a file of the source into a piece a shard; the number of rows of each."""
    inputs = {"file": one.file, "mark": one.mark, "shards": shards}
    name = f"cut-{one.config}-{one.number:05d}"
    return unless_done(out, name, inputs, [_pieces(one)], lambda: {"rows": _write_pieces(out, shards, one)})["rows"]


def _write_pieces(out: str, shards: int, one: _Input) -> list[int]:
    """An Arrow file whose batches are one a shard, in order, as often as there are chunks."""
    schema = arrow_schema(one.config).append(pa.field("split", pa.string()))
    counts = [0] * shards
    with opened(one.file) as stream:
        has_split = "split" in pq.read_schema(stream).names
    with opened(one.file) as stream, staged(at(out, _PIECES)) as folder:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(str(folder / Path(_pieces(one)).name), schema, options=options) as file:
            only = [field.name for field in schema if field.name != "split" or has_split]
            parts = scan_file(stream, one.config, one.file, only)
            for rows in regrouped(parts, lambda rows: int(rows.estimated_size()), _CHUNK):
                rows = _with_split(rows, one.file)  # which refuses rows without worker_id
                buckets = {worker: bucket_of(worker, shards) for worker in rows["worker_id"].unique()}
                rows = rows.with_columns(bucket=pl.col("worker_id").replace_strict(buckets, return_dtype=pl.Int64))
                rows = rows.sort("bucket", maintain_order=True)
                table = rows.select(schema.names).to_arrow().cast(schema).combine_chunks()
                ends = rows["bucket"].search_sorted(np.arange(shards + 1)).to_list()
                for bucket, (start, end) in enumerate(pairwise(ends)):
                    batches = table.slice(start, end - start).to_batches()
                    file.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema))
                    counts[bucket] += end - start
    return counts


def _with_split(rows: pl.DataFrame, file: str) -> pl.DataFrame:
    if rows["worker_id"].null_count():
        raise IfllmError(f"{file}: has rows without worker_id, which cannot be laid out by person. Leave it out.")
    if "split" in rows.columns:
        if not rows["split"].is_in(SPLITS).all() or rows["split"].null_count():
            raise IfllmError(f"{file}: split has other values than {' and '.join(SPLITS)}.")
        return rows
    if named := re.match(rf"({'|'.join(SPLITS)})\b", file.rpartition("/")[2]):
        return rows.with_columns(split=pl.lit(named[1]))
    splits = {worker: split_of(worker) for worker in rows["worker_id"].unique()}
    return rows.with_columns(split=pl.col("worker_id").replace_strict(splits, return_dtype=pl.String))


def _targets(inputs: list[_Input], cut: list[list[int]], shards: int) -> list[_Target]:
    targets = []
    for config in dict.fromkeys(one.config for one in inputs):
        files = [(one, counts) for one, counts in zip(inputs, cut, strict=True) if one.config == config]
        marks = [f"{one.file} {one.mark}" for one, _ in files]
        for number in range(shards):
            pieces = {_pieces(one): counts[number] for one, counts in files}
            targets.append(_Target(config, Shard(number, shards), pieces, marks))
    return targets


def _gather(out: str, target: _Target) -> int:
    """Write a shard of a config from its pieces; the number of its rows."""
    folder = f"data/{target.config}"
    files = [f"{folder}/{shard_name(split, target.shard)}" for split in SPLITS]
    name = f"{target.config}-{target.shard}"

    def work() -> dict[str, int]:
        parts = [rows for pieces, count in target.pieces.items() for rows in _read(at(out, pieces), target, count)]
        rows = pl.concat(parts, rechunk=True)
        del parts
        if twice := rows.filter(pl.col("question_id").is_duplicated())["question_id"].to_list():
            raise IfllmError(f"{target.config}: question {twice[0]} has more than one row. Leave out what is repeated.")
        both = rows.group_by("worker_id").agg(pl.col("split").n_unique()).filter(pl.col("split") > 1)["worker_id"]
        if len(both):
            raise IfllmError(f"{target.config}: {both[0]} has rows in both splits, which hold out whole persons.")
        with staged(at(out, folder)) as stage, closing(ConfigWriter(stage, target.config, target.shard)) as writer:
            order = rows.select("worker_id", "question_id").with_row_index().sort("worker_id", "question_id")["index"]
            for start in range(0, rows.height, _SORTED):
                writer.write(rows[order[start : start + _SORTED]])
        return {"rows": rows.height}

    return unless_done(out, name, {"files": target.marks}, files, work)["rows"]


def _read(pieces: str, target: _Target, count: int) -> Iterator[pl.DataFrame]:
    """A shard's batches of one of the files that `_write_pieces` wrote."""
    seen = 0
    with opened(pieces) as stream, pa.ipc.open_file(str(stream) if isinstance(stream, Path) else stream) as file:
        yield pl.DataFrame(file.schema.empty_table())
        for number in range(target.shard.number, file.num_record_batches, target.shard.of):
            batch = file.get_batch(number)
            seen += batch.num_rows
            yield pl.DataFrame(pl.from_arrow(batch))
    if seen != count:
        raise IfllmError(f"{pieces}: has {seen} rows of shard {target.shard} instead of {count}. Delete it.")
