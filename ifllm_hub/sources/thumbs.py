"""What thumbs say about two answers to one question."""

import polars as pl


def preferred_by_thumbs(left: pl.Expr, right: pl.Expr) -> pl.Expr:
    """Which of two answers thumbs prefer, "left" or "right": the one with the better thumb; null if they say neither.

    An answer without a thumb is between one with a thumb up and one with a thumb down.

    Args:
        left: the thumb on the left answer: above 0 up, below 0 down, null none.
        right: likewise.

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.sources.thumbs import preferred_by_thumbs
        >>> thumbs = pl.DataFrame({"left": [1, -1, 1, -1, None], "right": [None, None, -1, -1, None]})
        >>> thumbs.select(preferred_by_thumbs(pl.col("left"), pl.col("right"))).to_series().to_list()
        ['left', 'right', 'left', None, None]
    """
    better = left.sign().fill_null(0) - right.sign().fill_null(0)
    return pl.when(better > 0).then(pl.lit("left")).when(better < 0).then(pl.lit("right"))
