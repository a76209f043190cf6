"""Measures of a question as a whole, both answers together; as in `measures.py`, each is one expression."""

from dataclasses import dataclass

import polars as pl


@dataclass(frozen=True)
class Contrast:
    """One number about the reading of a question.

    Attributes:
        name: the column is `<modality>_<name>`.
        unit, family, formula: as in `catalog.Feature`.
        expr: the formula over the ticks that `context.in_context` gives for one question, and its `duration` (ms).
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


_dt, _sign = pl.col("dt"), pl.col("sign")


def _balance(name: str, formula: str, part: pl.Expr) -> Contrast:
    dwell = _dt.filter(part).sum()
    expr = pl.when(dwell > 0).then((_dt * _sign).filter(part).sum() / dwell)
    return Contrast(name, "share", "dwell", formula, expr, odd=True, high=1.0)


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
