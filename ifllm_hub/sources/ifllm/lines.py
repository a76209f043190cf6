"""Behavior files -> typed rows; a line that cannot be parsed is quarantined with its position and the reason.

The files are comma-separated, with the window text between double quotes but quotes inside it not escaped
(docs/format.md 2, T1), so a CSV reader swallows lines. Here a line is a physical line, and only its first and last
quotes are delimiters:

    rel_*, 7 columns:  x,y,"window",index,page_timer,face_ok,epoch
    rel_*, 6 columns:  x,y,"window",index,page_timer,epoch
    abs_*, 4 columns:  x,y,page_timer,epoch

The delimiting quotes are overwritten in place by a control byte, so that the Polars reader takes all others verbatim.
No Python runs per line. A line that contains a control byte of its own (such as a tab in its window) is quarantined.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from ifllm_hub.errors import IfllmError

_NEWLINE, _SPACE, _QUOTE, _COMMA, _DELIMITER = 0x0A, 0x20, 0x22, 0x2C, 0x02

_HEAD = {"x": pl.Float64, "y": pl.Float64}
_WINDOW = {"window": pl.String, "index": pl.Int32}
_SCHEMAS: dict[int, dict[str, type[pl.DataType]]] = {
    4: {**_HEAD, "page_timer": pl.Float64, "epoch": pl.Int64},
    6: {**_HEAD, **_WINDOW, "page_timer": pl.Float64, "epoch": pl.Int64},
    7: {**_HEAD, **_WINDOW, "page_timer": pl.Float64, "face_ok": pl.Int8, "epoch": pl.Int64},
}

# Why a line is quarantined; the position in this tuple is the code used while parsing, 0 is a good line.
REASONS = (
    "",
    "control character",
    "wrong number of fields",
    "window text without quotes",
    "misplaced quotes",
    "field is not a number",
    "coordinate beyond any screen",
    "epoch is not in milliseconds from 2020 to 2100",
)
_OK, _CONTROL, _FIELDS, _UNQUOTED, _QUOTES, _NUMBER, _COORDINATE, _EPOCH = range(8)

# Epochs outside 2020-2100 cannot be a recording time.
_FIRST_EPOCH, _LAST_EPOCH = 1_577_836_800_000, 4_102_444_800_000
# Coordinates are stored as float32, and the largest one plus 1 is the size of the viewport, an int32.
_BEYOND = 2.0**31

# What is parsed at a time, bytes: a processor's cache holds it and the arrays made of it.
_BATCH = 2 << 20

# How many lines of a rel file decide its layout.
_LAYOUT_LINES = 15


@dataclass(frozen=True)
class Parsed:
    """Files of one kind, parsed together.

    Attributes:
        rows: one row per physical line, in file and line order, so that the files of one conversation stay aligned:
            `file` (Int32, position in the input), `x`, `y` (Float64, px), for rel files `window` (String), `index`
            (Int32, UTF-16 units) and `face_ok` (Int8, null in 6-column files), `page_timer` (Float64, ms), `epoch`
            (Int64, Unix ms), `ok` (Boolean). The values of a quarantined line are null.
        lines: physical lines of each file.
        quarantine: `file` (Int32), `line` (Int64, from 1), `reason` (String).
    """

    rows: pl.DataFrame
    lines: list[int]
    quarantine: pl.DataFrame


def parse_files(paths: list[Path], columns: int) -> Parsed:
    """Parse behavior files that share one layout.

    Args:
        columns: 4 for `abs_*` files; for `rel_*` files 6 or 7, see `count_columns`.

    Raises:
        IfllmError: a file cannot be read or is not UTF-8; the message names the file, line and byte.
    """
    lines: list[int] = []
    reasons, indexed = [np.array([], dtype=np.uint8)], [np.array([], dtype=bool)]
    read = [_read_values(b"", columns, 0)]
    for contents in _batches(paths):
        data = np.frombuffer(bytearray().join(contents), dtype=np.uint8)
        ends, reason, index_given = _split(data, columns)
        lines += np.diff(np.searchsorted(ends, np.cumsum([0, *map(len, contents)]))).tolist()
        reasons.append(reason)
        indexed.append(index_given)
        read.append(_read_values(data.tobytes(), columns, len(ends)))
    reason, values = np.concatenate(reasons), pl.concat(read)
    _refuse_bad_numbers(values, columns, np.concatenate(indexed), reason)

    bad = np.flatnonzero(reason)
    ok = pl.Series(reason == _OK)
    if len(bad):
        values = values.select(pl.when(ok).then(pl.all()))
    file = np.repeat(np.arange(len(paths), dtype=np.int32), lines)
    line = bad - np.cumsum([0, *lines])[file[bad]] + 1
    quarantine = pl.DataFrame(
        {"file": file[bad], "line": line, "reason": [REASONS[code] for code in reason[bad]]},
        schema={"file": pl.Int32, "line": pl.Int64, "reason": pl.String},
    )
    return Parsed(values.with_columns(file=pl.Series(file), ok=ok), lines, quarantine)


def count_columns(path: Path) -> int:
    """6 or 7: the number of columns of a rel file (the 7th is a flag before the epoch), by most of its first lines.

    Raises:
        IfllmError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            ends = [line.rsplit(b",", 2) for line in islice(file, _LAYOUT_LINES)]
    except OSError as error:
        raise unreadable(path, error) from error
    flagged = sum(len(fields) == 3 and len(fields[1]) <= 1 for fields in ends)
    return 7 if 2 * flagged > len(ends) else 6


def unreadable(path: Path, error: OSError) -> IfllmError:
    """The error for a file of the release that exists but cannot be read."""
    return IfllmError(f"{path}: cannot be read ({error.strerror}). Unpack the release again.")


def _batches(paths: list[Path]) -> Iterator[list[bytes]]:
    """The contents of the files in their order, some `_BATCH` bytes at a time."""
    batch: list[bytes] = []
    for path in paths:
        batch.append(_read(path))
        if sum(map(len, batch)) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if not content.isascii():
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise bad_byte(path, content, error.start, "is not UTF-8") from error
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n")  # a checkout on Windows ends lines like this
    return content if content.endswith(b"\n") or not content else content + b"\n"


def bad_byte(path: Path, content: bytes, at: int, what: str) -> IfllmError:
    """The error for a damaged file, with the position of its first bad byte."""
    line = content.count(b"\n", 0, at) + 1
    return IfllmError(
        f"{path}, line {line}: byte 0x{content[at]:02x} at offset {at} {what}. The file is damaged: unpack the "
        "release again."
    )


def _split(data: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check every line's shape and overwrite, in place, a window's quotes by `_DELIMITER` and control bytes by spaces.

    Returns:
        Where each line ends, its reason code (uint8), and whether its index field is given (bool; all False for abs
        files).
    """
    marks = np.flatnonzero(data <= _COMMA)
    kind = data[marks]
    control = marks[(kind < _SPACE) & (kind != _NEWLINE)]
    data[control] = _SPACE
    wanted = (kind == _COMMA) | (kind == _NEWLINE)
    if columns > 4:
        wanted |= kind == _QUOTE
    marks, kind = marks[wanted], kind[wanted]
    # The marks of a line are those from `start` to `stop`, which is its newline.
    stop = np.flatnonzero(kind == _NEWLINE)
    start = np.concatenate([[0], stop + 1])[:-1]
    ends = marks[stop]
    reason = np.zeros(len(ends), dtype=np.uint8)
    index_given = np.zeros(len(ends), dtype=bool)
    if columns == 4:
        reason[stop - start != 3] = _FIELDS
        reason[np.searchsorted(ends, control)] = _CONTROL
        return ends, reason, index_given

    commas = np.cumsum(kind == _COMMA, dtype=np.int32)
    n_commas = np.diff(commas[stop], prepend=np.int32(0))
    has_quotes = stop - start > n_commas
    reason[np.where(has_quotes, n_commas < columns - 1, n_commas != columns - 1)] = _FIELDS
    after = columns - 3  # commas behind the window
    plain = np.flatnonzero(~has_quotes & (reason == _OK))
    second = start[plain] + 1
    reason[plain[marks[second + 1] != marks[second] + 1]] = _UNQUOTED

    line = np.flatnonzero(has_quotes)
    # Where the quotes of a window must be among the marks, kept within the line.
    first, last = np.minimum(start[line] + 2, stop[line]), np.maximum(stop[line] - after - 1, start[line])
    delimits = (
        (first < last)
        & (kind[first] == _QUOTE)
        & (kind[last] == _QUOTE)
        & (commas[stop[line]] - commas[first] == n_commas[line] - 2)
        & (commas[stop[line]] - commas[last] == after)
        & (marks[first] == marks[first - 1] + 1)
        & (marks[last] == marks[last + 1] - 1)
    )
    reason[line[~delimits]] = _QUOTES
    reason[np.searchsorted(ends, control)] = _CONTROL
    data[marks[first[delimits]]] = _DELIMITER
    data[marks[last[delimits]]] = _DELIMITER
    good = np.flatnonzero(reason == _OK)
    window_to = stop[good] - after
    index_given[good] = marks[window_to + 1] > marks[window_to] + 1
    return ends, reason, index_given


def _read_values(data: bytes, columns: int, lines: int) -> pl.DataFrame:
    schema = _SCHEMAS[columns]
    if lines == 0:
        values = pl.DataFrame(schema=schema)
    else:
        values = pl.read_csv(
            data,
            has_header=False,
            schema=schema,
            quote_char=chr(_DELIMITER),
            extra_columns="ignore",
            missing_columns="insert",
            ignore_errors=True,
        )
    if values.height != lines:
        raise AssertionError(f"{lines} lines became {values.height} rows: the reader does not see physical lines")
    return values if columns != 6 else values.with_columns(face_ok=pl.lit(None, pl.Int8))


def _refuse_bad_numbers(values: pl.DataFrame, columns: int, index_given: np.ndarray, reason: np.ndarray) -> None:
    good = pl.all_horizontal(pl.col("x", "y", "page_timer").is_finite()) & pl.col("epoch").is_not_null()
    if columns > 4:
        good &= pl.col("index").is_not_null() == pl.Series(index_given)
        good &= pl.col("index").fill_null(0) >= 0
    if columns == 7:
        good &= pl.col("face_ok").is_in([0, 1])
    on_screen = pl.all_horizontal(pl.col("x", "y").cast(pl.Float32).abs() < _BEYOND)
    recorded = pl.col("epoch").is_between(_FIRST_EPOCH, _LAST_EPOCH)
    fits = values.select(
        number=good.fill_null(False), coordinate=on_screen.fill_null(False), epoch=recorded.fill_null(False)
    )
    for code, name in ((_NUMBER, "number"), (_COORDINATE, "coordinate"), (_EPOCH, "epoch")):
        if not fits[name].all():
            reason[~fits[name].to_numpy() & (reason == _OK)] = code
