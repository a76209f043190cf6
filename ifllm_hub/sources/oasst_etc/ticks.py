"""Fixations -> ticks, so that what a tick adds to a dwell is what it adds in recordings made of samples."""

import polars as pl

# A tick lasts until the next, but features count at most this long of it, ms.
LONGEST_MS = 1_000
# Between two fixations closer than this, ms, gaze did not leave the text: the study's tracker, which samples every
# 80 ms, would not have seen it do so.
SACCADE_MS = 80


def ticks_of(fixations: pl.DataFrame) -> pl.DataFrame:
    """The ticks of an answer's fixations.

    There is a tick where a fixation begins, more of them at most `LONGEST_MS` apart while it lasts, and one off the
    text where it ends, unless the next begins less than `SACCADE_MS` later. So the ticks on a text last as long as the
    fixations on it, and the shorter gaps behind them.

    Args:
        fixations: in the order of time: `start`, `end` (Int64, ms; each ends before the next begins), `x`, `y`
            (Float64, px), `char` (Int64, code points, -1 off the text).

    Returns:
        `t` (Int64, ms), `x`, `y` (null where a fixation ended), `char`.
    """
    following = pl.col("start").shift(-1)
    bridged = (following - pl.col("end") < SACCADE_MS).fill_null(False)
    until = pl.when(bridged).then(following).otherwise("end")
    begun = (
        fixations.with_columns(t=pl.int_ranges("start", until, LONGEST_MS))
        .explode("t", empty_as_null=False)
        .select("t", "x", "y", "char")
    )
    ended = fixations.filter(~bridged & (pl.col("char") >= 0)).select(
        t="end", x=pl.lit(None, pl.Float64), y=pl.lit(None, pl.Float64), char=pl.lit(-1, pl.Int64)
    )
    return pl.concat([begun, ended]).sort("t", maintain_order=True)
