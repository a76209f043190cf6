"""A collector's batches -> one row for each tick, view and event, by the clock of the page that recorded it."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import polars as pl

# In place of a pointer, in rows that say what was on the screen.
VIEW = 5

_TICKS = {
    "t": pl.Int64,
    "r": pl.Int64,
    "x": pl.Float32,
    "y": pl.Float32,
    "char": pl.Int64,
    "pointer": pl.Int8,
}
# `char` is the first character that was on the screen.
_VIEWS = {
    "t": pl.Int64,
    "r": pl.Int64,
    "char": pl.Int64,
    "last": pl.Int64,
    "share": pl.Int64,
    "top": pl.Float32,
    "bottom": pl.Float32,
}
_RESPONSES = {
    "batch": pl.Int64,
    "r": pl.Int64,
    "response_id": pl.String,
    "text_sha256": pl.String,
    "text_length": pl.Int32,
    "session": pl.String,
    "sequence": pl.Int64,
    "origin": pl.Int64,
    "width": pl.Int32,
    "height": pl.Int32,
    "accuracy": pl.Float32,
    "error": pl.Float32,
}
_EVENTS = {
    "response_id": pl.String,
    "at": pl.Int64,
    "name": pl.String,
    "value": pl.Int64,
    "session": pl.String,
}


class BatchRows(NamedTuple):
    """What some batches have; `at` is in UTC ms by the browser's clock.

    Attributes:
        rows: ticks and views (whose `pointer` is `VIEW`), with the answer that each is about.
        events: also those about no answer, whose `response_id` is null.
        pages: the answers that each batch names, with the window's size and the gaze tracker's calibration.
        wrong_clocks: in how many batches the clock was off by more than a minute.
    """

    rows: pl.DataFrame
    events: pl.DataFrame
    pages: pl.DataFrame
    wrong_clocks: int


def batch_rows(
    batches: Iterable[tuple[tuple[str, int], Any]],
) -> BatchRows:
    """Rows of batches.

    Args:
        batches: session and sequence, and the parsed body, in their order.
    """
    responses: list[tuple[Any, ...]] = []
    events: list[tuple[Any, ...]] = []
    ticks: list[list[Any]] = []
    views: list[list[Any]] = []
    wrong_clocks = 0
    for number, ((session, sequence), body) in enumerate(batches):
        origin, named = body["origin"], body["responses"]
        wrong_clocks += body.get("clock_off", 0) != 0  # missing in older stores
        size = map(int, body["viewport"][:2])
        about = (session, sequence, origin, *size, *(body.get("calibration") or (None, None)))
        responses += [(number, r, *response, *about) for r, response in enumerate(named)]
        events += [
            (named[r][0] if r >= 0 else None, origin + t, name, value, session) for t, name, r, value in body["events"]
        ]
        ticks.append(body["ticks"])
        views.append(body.get("views", []))  # missing in older stores, as is the calibration
    pages = pl.DataFrame(responses, schema=_RESPONSES, orient="row")
    seen = _rows(views, _VIEWS).with_columns(pointer=pl.lit(VIEW, pl.Int8))
    rows = pl.concat([_rows(ticks, _TICKS), seen], how="diagonal")
    rows = rows.join(pages, on=["batch", "r"], maintain_order="left").with_columns(at=pl.col("origin") + pl.col("t"))
    return BatchRows(rows.drop("t"), pl.DataFrame(events, schema=_EVENTS, orient="row"), pages, wrong_clocks)


def _rows(batches: list[list[Any]], types: Mapping[str, Any]) -> pl.DataFrame:
    """What batches have of one kind, one row each, with the number of its batch and its place there."""
    # Whole numbers below 2^53.
    arrays = [np.array(rows, np.float64).reshape(-1, len(types)) for rows in batches]
    lengths = np.array([len(rows) for rows in arrays], np.int64)
    every = np.concatenate([np.empty((0, len(types))), *arrays])
    return pl.DataFrame(
        {name: pl.Series(column).cast(type_) for (name, type_), column in zip(types.items(), every.T, strict=True)}
    ).with_columns(
        batch=np.repeat(np.arange(len(lengths)), lengths),
        place=np.arange(len(every)) - np.repeat(np.cumsum(lengths) - lengths, lengths),
    )
