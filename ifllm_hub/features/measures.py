"""What is measured of one answer's reading, by one modality: each measure is one Polars expression over its ticks.

The expressions see the rows that `ticks.on_text` gives for one question and one side. They add up integers and divide
once at the end, so that a value does not depend on the order or grouping of the additions: results are bit-identical
for any file order, chunk size or thread count.
"""

from dataclasses import dataclass

import polars as pl

# Text is divided into cells of the width of a recorded window, code points.
CELL = 20


@dataclass(frozen=True)
class Measure:
    """One number about the reading of one answer; `unseen` is its value when only the other answer was looked at."""

    name: str
    unit: str
    family: str
    formula: str
    expr: pl.Expr
    unseen: float | None = None


_dt, _char, _length, _move = pl.col("dt"), pl.col("char"), pl.col("length"), pl.col("move")
_weight = _dt.sum()
_mean_char = (_dt * _char).sum() / _weight
_is_back = _move < -CELL

ENGAGEMENT = (
    Measure("dwell", "ms", "dwell", "sum of dt over ticks on the answer's text", _dt.sum(), unseen=0.0),
    Measure("dwell_per_char", "ms/char", "dwell", "dwell / answer length", _dt.sum() / _length.first(), unseen=0.0),
    Measure("visits", "count", "visits", "runs of consecutive on-text ticks", pl.col("visit").n_unique(), unseen=0.0),
    Measure(
        "longest_visit",
        "ms",
        "visits",
        "largest dwell of one visit",
        pl.col("visit_dwell").max(),
        unseen=0.0,
    ),
    Measure("first_seen", "ms", "order", "time of the first on-text tick", pl.col("t").min()),
    Measure("last_seen", "ms", "order", "time of the last on-text tick", pl.col("t").max()),
)

READING = (
    Measure("depth", "share", "progress", "largest char index / answer length", _char.max() / _length.first(), 0.0),
    Measure(
        "coverage",
        "share",
        "progress",
        f"{CELL}-character cells with a tick / cells of the answer",
        (_char // CELL).clip(0, (_length - 1) // CELL).n_unique() / ((_length.first() + CELL - 1) // CELL),
        unseen=0.0,
    ),
    Measure(
        "position_mean",
        "share",
        "position",
        "dwell-weighted mean of char index / answer length",
        pl.when(_weight > 0).then(_mean_char / _length.first()),
    ),
    Measure(
        "position_variance",
        "share^2",
        "position",
        "dwell-weighted variance of char index / answer length",
        # Sums of integers below 2^63; the difference is non-negative up to rounding, hence the clip.
        pl.when(_weight > 0).then(
            ((_dt * _char * _char).sum() / _weight - _mean_char * _mean_char).clip(0) / (_length.first() ** 2)
        ),
    ),
    Measure("forward", "char", "moves", "sum of forward moves within visits", _move.clip(0).sum(), unseen=0.0),
    Measure("backward", "char", "moves", "sum of backward moves within visits", (-_move).clip(0).sum(), unseen=0.0),
    Measure("regressions", "count", "moves", f"moves back by more than {CELL} characters", _is_back.sum(), unseen=0.0),
)

MEASURES = ENGAGEMENT + READING
