"""Parts of a reading in time: what only the last seconds say, and what is left without them."""

import polars as pl

from ifllm_hub.terms import MODALITIES, SIDES

_CARETS = tuple(f"{modality}_char_{side}" for modality in MODALITIES for side in SIDES)


def around_the_end(trajectories: pl.DataFrame, ms: int, before: bool) -> pl.DataFrame:
    """Trajectories cut at `ms` before the cursor was last on an answer's text.

    Just before the rating the cursor leaves the text for the rating form. What is on the text shortly before that could
    be the way there rather than reading.

    Args:
        trajectories: rows of the `trajectories` config.
        ms: distance of the cut from the last tick with the mouse on an answer's text, ms.
        before: keep what comes before the cut; else the cut and what comes after it.

    Returns:
        The rows in which something is left, with `t` and the char indices alone cut, in no particular order.
    """
    cursor = [pl.col(f"mouse_char_{side}") >= 0 for side in SIDES]
    cut = pl.col("t").filter(pl.any_horizontal(cursor)).max().over("question_id") - ms
    kept = (
        trajectories.select("question_id", "t", *_CARETS)
        .explode("t", *_CARETS, empty_as_null=False)
        .filter(pl.col("t") < cut if before else pl.col("t") >= cut)
        .group_by("question_id", maintain_order=True)
        .agg("t", *_CARETS)
    )
    return trajectories.drop("t", *_CARETS).join(kept, on="question_id")
