"""Dataset folders: a sound one, and in each one change; seeded, so that the same rows are hit in every run."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Spoiling = Callable[[Path, np.random.Generator], Any]
Change = Callable[[pa.Table, np.random.Generator], pa.Table]

# What reads the changed file: `ifllm label`, `ifllm replay`, or a trainer.
LABEL, REPLAY, TRAIN = "label", "replay", "train"


def hostile_datasets() -> list[tuple[str, str, Spoiling]]:
    """Name, reader and spoiling of each."""
    return [
        *((f"rows: {name}", LABEL, _rewritten(config, change)) for name, config, change in _ROWS),
        *((f"ticks: {name}", REPLAY, _rewritten("trajectories", change)) for name, change in _TICKS),
        *((f"pairs: {name}", TRAIN, _rewritten("preferences_explicit", change)) for name, change in _PAIRS),
        *((f"file: {name}", LABEL, spoil) for name, spoil in _FILES),
        *((f"manifest: {name}", LABEL, spoil) for name, spoil in _MANIFESTS),
    ]


def _path(folder: Path, config: str, split: str = "train") -> Path:
    return folder / "data" / config / f"{split}-00000-of-00001.parquet"


def _rewritten(config: str, change: Change) -> Spoiling:
    def spoil(folder: Path, rng: np.random.Generator) -> None:
        path = _path(folder, config)
        pq.write_table(change(pq.read_table(path), rng), path)

    return spoil


def _column(name: str, new: Callable[[pa.ChunkedArray, np.random.Generator], Any]) -> Change:
    """One column made anew, of whatever type."""

    def change(table: pa.Table, rng: np.random.Generator) -> pa.Table:
        column = new(table[name], rng)
        return table.set_column(table.column_names.index(name), name, column)

    return change


def _entry(name: str, value: Any) -> Change:
    """One entry of a column is another value."""

    def new(column: pa.ChunkedArray, rng: np.random.Generator) -> pa.Array:
        values = column.to_pylist()
        values[int(rng.integers(len(values)))] = value
        return pa.array(values, column.type)

    return _column(name, new)


def _cast(name: str, type_: pa.DataType) -> Change:
    return _column(name, lambda column, rng: pc.cast(column, type_))


def _row_twice(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    return pa.concat_tables([table, table.slice(int(rng.integers(table.num_rows)), 1)])


def _all_twice(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    return pa.concat_tables([table, table])


def _column_twice(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    return table.append_column("question_id", table["question_id"])


def _other_questions(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """Of another dataset: no question of this one is among them."""
    moved = pc.add(table["question_id"], int(rng.integers(10**6, 10**7)))
    return table.set_column(table.column_names.index("question_id"), "question_id", moved)


def _wide(table: pa.Table, rng: np.random.Generator) -> pa.Table:
    """A few kB that are a gigabyte when they are read: one text, and many rows that say it."""
    rows = 40_000
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * 100_000]))
    first = table.take(pa.array(np.zeros(rows, np.int64)))
    first = first.set_column(0, "question_id", pa.array(np.arange(1, rows + 1)))
    return first.set_column(first.column_names.index("query"), "query", text)


_FEATURE = "mouse_dwell_log_ratio"
_ROWS: list[tuple[str, str, Change]] = [
    ("ids as text", "pairwise", _cast("question_id", pa.string())),
    ("ids as numbers with a fraction", "features", _cast("question_id", pa.float64())),
    ("an id is null", "pairwise", _entry("question_id", None)),
    ("a question twice", "pairwise", _row_twice),
    ("every reading twice", "features", _all_twice),
    ("readings of other questions", "features", _other_questions),
    ("a worker is null", "pairwise", _entry("worker_id", None)),
    ("a column twice", "pairwise", _column_twice),
    ("an infinite feature", "features", _entry(_FEATURE, float("inf"))),
    ("a feature that is no number", "features", _entry(_FEATURE, float("nan"))),
    ("a feature as text", "features", _cast(_FEATURE, pa.string())),
    ("a feature as lists", "features", _column(_FEATURE, lambda c, rng: pa.array([[v] for v in c.to_pylist()]))),
    ("a third preference", "pairwise", _entry("preference", "both")),
    ("preferences as codes", "pairwise", _column("preference", lambda c, rng: pa.array([1] * len(c)))),
    ("an answer is null", "pairwise", _entry("response_left", None)),
    ("a fold beyond the last", "pairwise", _entry("fold_worker", 9)),
    ("one text forty thousand times", "pairwise", _wide),
]


def _shorter(column: pa.ChunkedArray, rng: np.random.Generator) -> pa.Array:
    lists = column.to_pylist()
    row = int(rng.integers(len(lists)))
    lists[row] = lists[row][:-1]
    return pa.array(lists, column.type)


def _backwards(column: pa.ChunkedArray, rng: np.random.Generator) -> pa.Array:
    lists = column.to_pylist()
    lists[int(rng.integers(len(lists)))][0] = -5
    return pa.array(lists, column.type)


def _zeros(column: pa.ChunkedArray, rng: np.random.Generator) -> pa.Array:
    """Some kB that are two gigabytes when they are read."""
    lists = column.to_pylist()
    many = 500_000_000 // len(lists)
    return pa.ListArray.from_arrays(
        pa.array(np.arange(len(lists) + 1, dtype=np.int32) * many), pa.array(np.zeros(many * len(lists), np.int32))
    )


_TICKS: list[tuple[str, Change]] = [
    ("one list is shorter than the others", _column("mouse_x", _shorter)),
    ("a time before the answer", _column("t", _backwards)),
    ("times as text", _column("t", lambda c, rng: pa.array([["soon"] for _ in range(len(c))]))),
    ("times that are no lists", _column("t", lambda c, rng: pa.array(range(len(c))))),
    ("half a billion ticks", _column("t", _zeros)),
]
_PAIRS: list[tuple[str, Change]] = [
    ("a pair twice", _row_twice),
    ("labels of another source", _entry("label_source", "shuffled")),
    ("a flip probability above one half", _entry("flip_prob", 0.7)),
    ("a flip probability is no number", _entry("flip_prob", float("nan"))),
    ("an answer without messages", _entry("chosen", [])),
    ("a prompt as text", _column("prompt", lambda c, rng: pa.array(["?"] * len(c)))),
]


def _content(make: Callable[[bytes, np.random.Generator], bytes]) -> Spoiling:
    def spoil(folder: Path, rng: np.random.Generator) -> None:
        path = _path(folder, "pairwise")
        path.write_bytes(make(path.read_bytes(), rng))

    return spoil


def _instead(make: Callable[[Path], Any]) -> Spoiling:
    """Something that is no regular file, in the place of one."""

    def spoil(folder: Path, rng: np.random.Generator) -> None:
        path = _path(folder, "features")
        path.unlink()
        make(path)

    return spoil


def _flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """One bit of the footer, whose length the last eight bytes begin with."""
    damaged = bytearray(content)
    length = int.from_bytes(content[-8:-4], "little")
    damaged[len(content) - 8 - int(rng.integers(1, length))] ^= 0x80
    return bytes(damaged)


def _more_rows(folder: Path, rng: np.random.Generator) -> None:
    """A footer that says other numbers of rows than the pages have."""
    path = _path(folder, "pairwise")
    table = pq.read_table(path).slice(0, 20)
    pq.write_table(table, path)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - length : -8]
    # A compact Thrift integer is zigzag: 20 is 40. As the third field of the file (0x16 behind the list of columns).
    at = footer.find(b"\x16" + bytes([40]) + b"\x19")
    assert at > 0
    forged = footer[: at + 1] + bytes([126]) + footer[at + 2 :]
    path.write_bytes(content[: -8 - length] + forged + content[-8:])


def _null_rows(folder: Path, rng: np.random.Generator) -> None:
    """Sixty million rows of nothing: some kB."""
    path = _path(folder, "pairwise")
    schema = pq.read_schema(path)
    rows = 1_000_000
    nothing = pa.table({field.name: pa.nulls(rows, field.type) for field in schema}, schema=schema)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for _ in range(60):
            writer.write_table(nothing)


def _large_footer(folder: Path, rng: np.random.Generator) -> None:
    path = _path(folder, "pairwise")
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"note": "x" * 80_000_000}), path)


_FILES: list[tuple[str, Spoiling]] = [
    ("empty", _content(lambda content, rng: b"")),
    ("torn", _content(lambda content, rng: content[: int(rng.integers(8, len(content)))])),
    ("a page of a proxy", _content(lambda content, rng: b"<!doctype html><title>Log in</title>")),
    (
        "a pointer of Git LFS",
        _content(lambda content, rng: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    ),
    ("an encrypted footer", _content(lambda content, rng: content[:-4] + b"PARE")),
    ("a footer longer than the file", _content(lambda content, rng: content[:-8] + b"\xff\xff\xff\x7fPAR1")),
    ("a bit of the footer flipped", _content(_flipped)),
    ("another number of rows", _more_rows),
    ("sixty million rows of nothing", _null_rows),
    ("eighty megabytes of notes", _large_footer),
    ("a folder", _instead(Path.mkdir)),
    ("a pipe", _instead(os.mkfifo)),
    ("a link to itself", _instead(lambda path: path.symlink_to(path))),
    ("a link to zeros without end", _instead(lambda path: path.symlink_to("/dev/zero"))),
    ("a link to nowhere", _instead(lambda path: path.symlink_to("/nowhere"))),
]


def _manifest(content: str | bytes) -> Spoiling:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder, rng: (folder / "manifest.json").write_bytes(raw)


def _without(*keys: str) -> Spoiling:
    def spoil(folder: Path, rng: np.random.Generator) -> None:
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        inner = manifest
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        path.write_text(json.dumps(manifest))

    return spoil


_MANIFESTS: list[tuple[str, Spoiling]] = [
    ("a list", _manifest("[]")),
    ("nested without end", _manifest("[" * 200_000)),
    ("not UTF-8", _manifest(b'{"tier": "\xff\xfe"}')),
    ("without the carets", _without("carets")),
    ("without a table's counts", _without("tables", "ai_errors")),
    ("a tier that there is not", _manifest('{"tier": "secret"}')),
]
