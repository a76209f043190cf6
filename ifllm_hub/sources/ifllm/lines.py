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
    contents = [_read(path) for path in paths]
    lines = [content.count(b"\n") for content in contents]
    data = np.frombuffer(bytearray().join(contents), dtype=np.uint8)
    del contents

    reason, index_given = _split(data, columns)
    values = _read_values(data, columns, len(reason))
    _refuse_bad_numbers(values, columns, index_given, reason)

    ok = pl.Series(reason == _OK)
    if not ok.all():
        values = values.select(pl.when(ok).then(pl.all()))
    file = np.repeat(np.arange(len(paths), dtype=np.int32), lines)
    bad = np.flatnonzero(reason)
    line = bad - np.concatenate([[0], np.cumsum(lines)])[file[bad]] + 1
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


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise bad_byte(path, content, error.start, "is not UTF-8") from error
    content = content.replace(b"\r\n", b"\n")  # line ends of a checkout on Windows
    return content if content.endswith(b"\n") or not content else content + b"\n"


def bad_byte(path: Path, content: bytes, at: int, what: str) -> IfllmError:
    """The error for a damaged file, with the position of its first bad byte."""
    line = content.count(b"\n", 0, at) + 1
    return IfllmError(
        f"{path}, line {line}: byte 0x{content[at]:02x} at offset {at} {what}. The file is damaged: unpack the "
        "release again."
    )


def _split(data: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Check the shape of every line; in place, replace a window's quotes by `_DELIMITER` and control bytes by spaces.

    Returns:
        The reason code of each line (uint8), and whether its index field is given (bool; all False for abs files).
    """
    ends = np.flatnonzero(data == _NEWLINE)
    control = np.flatnonzero((data < _SPACE) & (data != _NEWLINE))
    data[control] = _SPACE
    # Sentinels keep look-ups within the array for lines with too few commas; such lines are refused below.
    commas = np.append(np.flatnonzero(data == _COMMA), len(data) + np.arange(8))
    comma_to = np.searchsorted(commas, ends)
    comma_from = np.concatenate([[0], comma_to[:-1]]) if len(ends) else comma_to
    n_commas = comma_to - comma_from
    reason = np.zeros(len(ends), dtype=np.uint8)
    if columns == 4:
        reason[n_commas != 3] = _FIELDS
        reason[np.searchsorted(ends, control)] = _CONTROL
        return reason, np.zeros(len(ends), dtype=bool)

    quotes = np.flatnonzero(data == _QUOTE)
    quote_to = np.searchsorted(quotes, ends)
    quote_from = np.concatenate([[0], quote_to[:-1]]) if len(ends) else quote_to
    has_quotes = quote_to > quote_from
    window_from = commas[comma_from + 1]
    window_to = commas[np.maximum(comma_to - (columns - 3), 0)]
    reason[n_commas < columns - 1] = _FIELDS
    reason[~has_quotes & (n_commas > columns - 1)] = _FIELDS
    reason[~has_quotes & (n_commas == columns - 1) & (window_to != window_from + 1)] = _UNQUOTED

    line = np.flatnonzero(has_quotes)
    first, last = quotes[quote_from[line]], quotes[quote_to[line] - 1]
    delimits = (first < last) & (first == window_from[line] + 1) & (last == window_to[line] - 1)
    reason[line[~delimits]] = _QUOTES
    reason[np.searchsorted(ends, control)] = _CONTROL
    data[first[delimits]] = _DELIMITER
    data[last[delimits]] = _DELIMITER
    index_to = commas[np.maximum(comma_to - (columns - 4), 0)]
    return reason, (reason == _OK) & (index_to > window_to + 1)


def _read_values(data: np.ndarray, columns: int, lines: int) -> pl.DataFrame:
    schema = _SCHEMAS[columns]
    if lines == 0:
        values = pl.DataFrame(schema=schema)
    else:
        values = pl.read_csv(
            data.tobytes(),
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
    for code, fits in ((_NUMBER, good), (_COORDINATE, on_screen), (_EPOCH, recorded)):
        bad = ~values.select(fits.fill_null(False)).to_series().to_numpy()
        reason[bad & (reason == _OK)] = code
