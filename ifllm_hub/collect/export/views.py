"""What of answers was on the screen, as recorded: rows of one answer each -> the `viewport` lists of a question."""

import polars as pl

from ifllm_hub.features.viewport import LISTS
from ifllm_hub.terms import SIDES


def view_lists(views: pl.DataFrame) -> pl.DataFrame:
    """One row per question with its lists.

    A page records all answers on its screen at once, so an answer that is missing at a moment was not there.

    Args:
        views: one row per answer and moment: `question`, `session`, `side`, `t` (ms), `char` and `last` (first and last
            character on the screen, code points), `share` (thousandths), `top`, `bottom` (CSS px), `length` (of the
            answer, code points) and `status`. A moment with an answer that is not `kept` is left out: what else was on
            the screen is not known.

    Returns:
        `question` and the columns of `features.viewport.LISTS`.
    """
    # At one moment an answer may leave under its old token and be there under its new one.
    moment = ["question", "session", "t"]
    latest = (
        views.join(views.filter(pl.col("status") != "kept"), on=moment, how="anti", nulls_equal=True)
        .sort("question", "t", "session", "side", "share", maintain_order=True)
        .unique(["question", "t", "session", "side"], keep="last", maintain_order=True)
    )
    # Of a text that goes on after the registered one, only this counts.
    there = (pl.col("share") > 0) & (pl.col("char") >= 0) & (pl.col("char") < pl.col("length"))
    shown = {
        "first": pl.when(there).then("char").otherwise(-1),
        "last": pl.when(there).then(pl.min_horizontal("last", pl.col("length") - 1)).otherwise(-1),
        "share": pl.when(pl.col("share") > 0).then(pl.col("share") / 1_000).otherwise(0.0),
        "top": pl.when(pl.col("share") > 0).then("top"),
        "bottom": pl.when(pl.col("share") > 0).then("bottom"),
    }
    nothing = {"first": -1, "last": -1, "share": 0.0}
    of_sides = {
        f"viewport_{name}_{side}": pl.col(name).filter(pl.col("side") == side).first()
        for name in shown
        for side in SIDES
    }
    moments = latest.with_columns(**shown).group_by("question", "t", "session", maintain_order=True)
    wide = moments.agg(**of_sides).with_columns(
        pl.col(f"viewport_{name}_{side}").fill_null(value) for name, value in nothing.items() for side in SIDES
    )
    return (
        wide.rename({"t": "viewport_t"})
        .group_by("question", maintain_order=True)
        .agg(pl.col(name).cast(type_.inner) for name, type_ in LISTS.items())
    )
