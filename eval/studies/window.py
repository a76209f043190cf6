"""Parts of a reading in time, and its ticks in another order: what is left of what a reading tells without them."""

import polars as pl

from ifllm_hub.terms import MODALITIES, SIDES

_CARETS = tuple(f"{modality}_char_{side}" for modality in MODALITIES for side in SIDES)
_SEED = 0


def off_text(trajectories: pl.DataFrame, where: pl.Expr) -> pl.DataFrame:
    """Trajectories in which neither modality is on an answer's text at some ticks; all else stays, times too.

    Args:
        trajectories: rows of the `trajectories` config.
        where: a Boolean of the columns of a tick: `t` (ms); `first` and `last` (ms, when the mouse was first and last
            on text); `visit` (the number of the mouse's visit to one side, from 1, that the tick is in or after),
            `visits` (how many there are); `draw` (uniform in [0, 1), one for each question).

    Returns:
        The rows, in their order.
    """
    on_text = pl.any_horizontal(pl.col(f"mouse_char_{side}") >= 0 for side in SIDES)
    side = pl.when(pl.col("mouse_char_left") >= 0).then(0).when(pl.col("mouse_char_right") >= 0).then(1)
    starts = on_text & side.ne_missing(side.shift(1).over("question_id"))
    draws = pl.Series(pl.select(pl.int_range(trajectories.height).shuffle(_SEED)).to_series() / trajectories.height)
    ticks = (
        trajectories.select("question_id", "t", *_CARETS)
        .with_columns(draw=draws)
        .explode("t", *_CARETS, empty_as_null=False)
        .with_columns(
            first=pl.col("t").filter(on_text).min().over("question_id"),
            last=pl.col("t").filter(on_text).max().over("question_id"),
            visit=starts.cast(pl.Int64).cum_sum().over("question_id"),
        )
        .with_columns(visits=pl.col("visit").max().over("question_id"))
        .with_columns(pl.when(where).then(pl.lit(-1, pl.Int16)).otherwise(caret).alias(caret) for caret in _CARETS)
    )
    return _with_ticks(trajectories, ticks)


def reordered(trajectories: pl.DataFrame, by: pl.Expr) -> pl.DataFrame:
    """Trajectories whose ticks come in another order, each as long as it was (the time to the tick that followed it).

    Args:
        by: what the ticks of a question are sorted by; sees `tick` (position in the question) and `draw` (uniform in
            [0, 1), one for each tick).
    """
    long = trajectories.select("question_id", "t", *_CARETS).explode("t", *_CARETS, empty_as_null=False)
    draws = pl.select(pl.int_range(long.height).shuffle(_SEED)).to_series() / long.height
    lasting = (pl.col("t").shift(-1) - pl.col("t")).over("question_id").fill_null(0)
    ticks = (
        long.with_columns(lasting=lasting, tick=pl.int_range(pl.len()).over("question_id"), draw=draws)
        .with_columns(order=by)
        .sort("question_id", "order", maintain_order=True)
        .with_columns(t=(pl.col("lasting").cum_sum() - pl.col("lasting")).over("question_id").cast(pl.Int32))
    )
    return _with_ticks(trajectories, ticks)


def _with_ticks(trajectories: pl.DataFrame, ticks: pl.DataFrame) -> pl.DataFrame:
    lists = ticks.group_by("question_id", maintain_order=True).agg("t", *_CARETS)
    return trajectories.drop("t", *_CARETS).join(lists, on="question_id", maintain_order="left")
