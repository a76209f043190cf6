"""What each on-text tick is part of: a visit, a stay, a dwell run, a quarter of the reading, a cell of the text."""

import polars as pl

from ifllm_hub.features.measures import CELL

_ANSWER = ("question_id", "side")


def in_context(reading: pl.DataFrame) -> pl.DataFrame:
    """The ticks of `ticks.on_text` with the columns that the measures need.

    Args:
        reading: from `ticks.on_text`: a question's ticks are contiguous and in order.

    Returns:
        The same rows with
        `sign` (1 on the left answer, -1 on the right),
        `visit_dwell` (Int64, ms of the tick's visit),
        `stay` (Int64, number of changes of side before the tick; leaving the text does not end a stay),
        `furthest` (Int64, largest char so far on that answer),
        `quarter` (Int64, 0-3: of the question's dwell on both answers, the quarter in which the tick begins),
        `run_starts` (Boolean, first tick of a dwell run: ticks of one visit in one cell), `run_dwell` (Int64, ms) and
        `cell` (Int64), `cell_dwell` (Int64, total ms on that cell).
    """
    dt, side, question = pl.col("dt"), pl.col("side"), pl.col("question_id")
    # The caret after the last character is in the last cell.
    cell = (pl.col("char") // CELL).clip(0, (pl.col("length") - 1) // CELL)
    begins = question.ne_missing(question.shift(1))
    crosses = (side != side.shift(1)) & ~begins
    moves = (
        begins
        | pl.col("visit").ne_missing(pl.col("visit").shift(1))
        | pl.col("cell").ne_missing(pl.col("cell").shift(1))
    )
    before, total = dt.cum_sum().over("question_id") - dt, dt.sum().over("question_id")
    return (
        reading.with_columns(cell=cell)
        .with_columns(
            sign=pl.when(side == "left").then(1).otherwise(-1),
            visit_dwell=dt.sum().over("question_id", "visit"),
            stay=crosses.cast(pl.Int64).cum_sum().over("question_id"),
            furthest=pl.col("char").cum_max().over(_ANSWER),
            # Without dwell, every tick is in the first quarter.
            quarter=(4 * before // total.clip(1)).clip(0, 3),
            run_starts=moves,
            run=moves.cum_sum(),
        )
        .with_columns(run_dwell=dt.sum().over("run"), cell_dwell=dt.sum().over(*_ANSWER, "cell"))
        .drop("run")
    )
