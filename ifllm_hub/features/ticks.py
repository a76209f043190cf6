"""Trajectories (a row a question, lists of ticks) -> the ticks on an answer's text, one row each, in their context."""

import polars as pl

from ifllm_hub.features.measures import CELL
from ifllm_hub.terms import MODALITIES, SIDES

# The most that one step between ticks may add to a dwell, ms: a hidden tab leaves gaps of minutes.
# The paper's code caps at the same 1,000 ms (docs/format.md 7.2).
MAX_STEP_MS = 1_000
_ANSWER = ("question_id", "side")


def all_ticks(trajectories: pl.DataFrame) -> pl.DataFrame:
    """One row per tick, with its duration.

    Args:
        trajectories: rows of the `trajectories` config, in any order.

    Returns:
        `question_id`, `tick` (Int64, position in the question), `t` (Int64, ms), `dt` (Int64, ms to the next tick, at
        most `MAX_STEP_MS`, 0 for the last), `<modality>_side` ("left", "right" or null off the text) and
        `<modality>_char` (Int64, code points).
    """
    carets = [f"{modality}_char_{side}" for modality in MODALITIES for side in SIDES]
    long = (
        trajectories.select("question_id", "t", *carets)
        .filter(pl.col("t").list.len() > 0)
        .explode("t", *carets, empty_as_null=False)
        .with_columns(pl.exclude("question_id").cast(pl.Int64))
    )
    step = (pl.col("t").shift(-1) - pl.col("t")).over("question_id").fill_null(0).clip(0, MAX_STEP_MS)
    located = {}
    for modality in MODALITIES:
        left, right = pl.col(f"{modality}_char_left"), pl.col(f"{modality}_char_right")
        located[f"{modality}_side"] = pl.when(left >= 0).then(pl.lit("left")).when(right >= 0).then(pl.lit("right"))
        located[f"{modality}_char"] = pl.when(left >= 0).then(left).when(right >= 0).then(right)
    return long.select("question_id", "t", tick=pl.int_range(pl.len()).over("question_id"), dt=step, **located)


def on_text(ticks: pl.DataFrame, lengths: pl.DataFrame, modality: str) -> pl.DataFrame:
    """The ticks of one modality that lie on an answer's text; nothing else may reach a feature.

    After rating, the cursor rests on the rating form, so positions off the text give the label away (docs/format.md 5).
    Nor does gaze count after the mouse has left the text for good: webcam gaze drifts after the cursor, which is then
    on its way to the form (docs/results/last_seconds.md).

    Args:
        ticks: from `all_ticks`: a question's ticks stand together, in their order.
        lengths: `question_id`, `length_left`, `length_right` (code points).

    Returns:
        `question_id`, `side`, `t`, `dt`, `char`, `length` (Int64, code points of that answer), `visit` (Int64, number
        in the table of the run of consecutive on-text ticks of a question on one side) and `move` (Int64, code points
        since the previous tick of the visit; null on its first).
    """
    side = pl.col(f"{modality}_side")
    begins = pl.col("question_id").ne_missing(pl.col("question_id").shift(1))
    visit = (side.is_not_null() & (begins | side.ne_missing(side.shift(1)))).cast(pl.Int64).cum_sum()
    goes_on = pl.col("visit") == pl.col("visit").shift(1)
    last_with_mouse = pl.col("tick").filter(pl.col("mouse_side").is_not_null()).max().over("question_id")
    read = pl.col("tick") <= last_with_mouse.fill_null(pl.col("tick")) if modality == "gaze" else pl.lit(True)
    length = pl.when(pl.col("side") == "left").then("length_left").otherwise("length_right")
    return (
        ticks.with_columns(side=side, char=pl.col(f"{modality}_char"), visit=visit)
        .filter(pl.col("side").is_not_null() & read)
        .join(lengths, on="question_id", how="left", maintain_order="left")
        .with_columns(length=length.cast(pl.Int64), move=pl.when(goes_on).then(pl.col("char").diff()))
        .select("question_id", "side", "t", "dt", "char", "length", "visit", "move")
    )


def in_context(reading: pl.DataFrame) -> pl.DataFrame:
    """The ticks of `on_text` with what the measures ask about each: what it is part of.

    Args:
        reading: from `on_text`: a question's ticks stand together, in their order.

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
    moves = pl.col("visit").ne_missing(pl.col("visit").shift(1)) | pl.col("cell").ne_missing(pl.col("cell").shift(1))
    before, total = dt.cum_sum().over("question_id") - dt, dt.sum().over("question_id")
    return (
        reading.with_columns(cell=cell)
        .with_columns(
            sign=pl.when(side == "left").then(1).otherwise(-1),
            visit_dwell=dt.sum().over("visit"),
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
