"""What is measured of a reading by one modality, of each answer and of both together: one Polars expression each.

The expressions see the rows that `ticks.in_context` gives for one question, and for a `Measure` one side of it. They
add up integers and divide once at the end, so that a value does not depend on the order or grouping of the additions:
results are bit-identical for any file order, chunk size or thread count.
"""

from dataclasses import dataclass

import polars as pl

# Text is divided into cells as wide as a recorded window, code points.
CELL = 20
# A dwell run at least this long is a pause, ms. It is no fixation: 12 Hz is too slow to see those.
PAUSE_MS = 500
# Dwell from which a cell counts as read rather than crossed, ms.
READ_MS = 300


@dataclass(frozen=True)
class Measure:
    """One number about the reading of one answer, never below 0.

    Attributes:
        name: the columns are `<modality>_<name>_left`, `_right` and `_diff`.
        unit, family, formula: as in `catalog.Feature`.
        expr: the formula over the ticks of one question and side.
        unseen: its value if only the other answer was looked at; None: not defined then.
        high: largest possible value; None: unbounded.
        fixed: units of the constants in the formula ("ms", "char").
        of_two: defined for questions with two answers only.
    """

    name: str
    unit: str
    family: str
    formula: str
    expr: pl.Expr
    unseen: float | None = None
    high: float | None = None
    fixed: tuple[str, ...] = ()
    of_two: bool = False


@dataclass(frozen=True)
class Contrast:
    """One number about the reading of a question.

    Attributes:
        name: the column is `<modality>_<name>`.
        unit, family, formula: as in `catalog.Feature`.
        expr: the formula over the ticks that `ticks.in_context` gives for one question, and its `duration` (ms).
        odd: whether swapping the answers changes its sign; otherwise it stays the same and is never below 0.
        high: largest possible value (for an odd one, in absolute terms); None: unbounded.
        of_two: defined for questions with two answers only.
    """

    name: str
    unit: str
    family: str
    formula: str
    expr: pl.Expr
    odd: bool
    high: float | None = None
    of_two: bool = True


_dt, _char, _length, _move, _sign = (pl.col(name) for name in ("dt", "char", "length", "move", "sign"))
_weight = _dt.sum()
_mean_char = (_dt * _char).sum() / _weight
_is_back = _move < -CELL
_is_pause = pl.col("run_dwell") >= PAUSE_MS


def _share_of_dwell(part: pl.Expr) -> pl.Expr:
    return pl.when(_weight > 0).then(_dt.filter(part).sum() / _weight)


def _balance(name: str, formula: str, part: pl.Expr) -> Contrast:
    dwell = _dt.filter(part).sum()
    expr = pl.when(dwell > 0).then((_dt * _sign).filter(part).sum() / dwell)
    return Contrast(name, "share", "dwell", formula, expr, odd=True, high=1.0)


ENGAGEMENT = (
    Measure("dwell", "ms", "dwell", "sum of dt over ticks on the answer's text", _dt.sum(), unseen=0.0),
    Measure("dwell_per_char", "ms/char", "dwell", "dwell / answer length", _dt.sum() / _length.first(), unseen=0.0),
    Measure("visits", "count", "visits", "runs of consecutive on-text ticks", pl.col("visit").n_unique(), unseen=0.0),
    Measure("longest_visit", "ms", "visits", "largest dwell of one visit", pl.col("visit_dwell").max(), unseen=0.0),
    Measure(
        "return_dwell",
        "ms",
        "visits",
        "dwell after having come back from the other answer",
        _dt.filter(pl.col("stay") >= 2).sum(),
        unseen=0.0,
        of_two=True,
    ),
    Measure("first_seen", "ms", "order", "time of the first on-text tick", pl.col("t").min()),
    Measure("last_seen", "ms", "order", "time of the last on-text tick", pl.col("t").max()),
    Measure(
        "pauses",
        "count",
        "pauses",
        f"dwell runs (ticks of one visit in one {CELL}-character cell) of at least {PAUSE_MS} ms",
        (pl.col("run_starts") & _is_pause).sum(),
        unseen=0.0,
        fixed=("ms", "char"),
    ),
    Measure(
        "pause_dwell",
        "ms",
        "pauses",
        f"dwell in dwell runs of at least {PAUSE_MS} ms",
        _dt.filter(_is_pause).sum(),
        unseen=0.0,
        fixed=("ms", "char"),
    ),
)

READING = (
    Measure(
        "depth",
        "share",
        "progress",
        "largest char index / answer length",
        _char.max() / _length.first(),
        unseen=0.0,
        high=1.0,
    ),
    *(
        Measure(
            f"progress_quarter_{quarter}",
            "share",
            "progress",
            f"largest char index by the end of quarter {quarter} of the question's reading time / answer length",
            (_char.filter(pl.col("quarter") < quarter).max() / _length.first()).fill_null(0),
            unseen=0.0,
            high=1.0,
        )
        for quarter in (1, 2, 3)
    ),
    Measure(
        "coverage",
        "share",
        "progress",
        f"{CELL}-character cells with a tick / cells of the answer",
        pl.col("cell").n_unique() / ((_length.first() + CELL - 1) // CELL),
        unseen=0.0,
        high=1.0,
        fixed=("char",),
    ),
    Measure(
        "cells",
        "count",
        "progress",
        f"{CELL}-character cells with a tick",
        pl.col("cell").n_unique(),
        unseen=0.0,
        fixed=("char",),
    ),
    Measure(
        f"cells_{READ_MS}ms",
        "count",
        "progress",
        f"{CELL}-character cells with at least {READ_MS} ms of dwell",
        pl.col("cell").filter(pl.col("cell_dwell") >= READ_MS).n_unique(),
        unseen=0.0,
        fixed=("ms", "char"),
    ),
    Measure(
        "position_mean",
        "share",
        "position",
        "dwell-weighted mean of char index / answer length",
        pl.when(_weight > 0).then(_mean_char / _length.first()),
        high=1.0,
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
        high=0.25,
    ),
    Measure(
        "head_share",
        "share",
        "position",
        "dwell on the first third of the answer / dwell on it",
        _share_of_dwell(3 * _char < _length),
        high=1.0,
    ),
    Measure(
        "tail_share",
        "share",
        "position",
        "dwell on the last third of the answer / dwell on it",
        _share_of_dwell(3 * _char >= 2 * _length),
        high=1.0,
    ),
    Measure("forward", "char", "moves", "sum of forward moves within visits", _move.clip(0).sum(), unseen=0.0),
    Measure("backward", "char", "moves", "sum of backward moves within visits", (-_move).clip(0).sum(), unseen=0.0),
    Measure(
        "regressions",
        "count",
        "moves",
        f"moves back by more than {CELL} characters",
        _is_back.sum(),
        unseen=0.0,
        fixed=("char",),
    ),
    Measure(
        "lookback_share",
        "share",
        "moves",
        f"dwell more than {CELL} characters before the furthest one reached so far / dwell",
        _share_of_dwell(_char < pl.col("furthest") - CELL),
        high=1.0,
        fixed=("char",),
    ),
    Measure(
        "speed",
        "char/s",
        "moves",
        "forward moves / dwell",
        pl.when(_weight > 0).then(1_000 * _move.clip(0).sum() / _weight),
    ),
)

MEASURES = ENGAGEMENT + READING

PER_QUESTION = (
    _balance("balance", "(dwell left - dwell right) / dwell on both", pl.lit(True)),
    *(
        _balance(
            f"balance_quarter_{quarter}",
            f"(dwell left - dwell right) / dwell on both, in quarter {quarter} of the question's reading time",
            pl.col("quarter") == quarter - 1,
        )
        for quarter in (1, 2, 3, 4)
    ),
    Contrast("first_side", "sign", "order", "1 if left was read first, -1 if right", _sign.first(), odd=True, high=1.0),
    Contrast("last_side", "sign", "order", "1 if left was read last, -1 if right", _sign.last(), odd=True, high=1.0),
    Contrast(
        "first_stay_share",
        "share",
        "order",
        "dwell before the first change of side / dwell on both",
        pl.when(_dt.sum() > 0).then(_dt.filter(pl.col("stay") == 0).sum() / _dt.sum()),
        odd=False,
        high=1.0,
    ),
    Contrast(
        "switches",
        "count",
        "visits",
        "changes of side between on-text ticks",
        (_sign != _sign.shift(1)).sum(),
        odd=False,
    ),
    Contrast("dwell_total", "ms", "dwell", "dwell on both answers", _dt.sum(), odd=False, of_two=False),
    Contrast(
        "on_text",
        "share",
        "dwell",
        "dwell on both answers / duration of all ticks",
        pl.when(pl.col("duration").first() > 0).then(_dt.sum() / pl.col("duration").first()),
        odd=False,
        high=1.0,
        of_two=False,
    ),
)
