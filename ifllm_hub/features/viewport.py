"""What of the answers was on the screen, and when: the `viewport` lists of a question -> rows, and measures of them.

A reader of a phone leaves no cursor. What they had on the screen says where they can have read, not where they did.
"""

import polars as pl

from ifllm_hub.features.measures import Measure
from ifllm_hub.terms import SIDES

# The most that one recorded moment may last, ms: while an answer is on the screen, there is one a second.
MAX_VIEW_MS = 2_000
# The columns of `trajectories`: an entry is what was on the screen from then on.
LISTS: dict[str, pl.List] = {
    "viewport_t": pl.List(pl.Int32),
    **{f"viewport_{name}_{side}": pl.List(pl.Int16) for name in ("first", "last") for side in SIDES},
    **{f"viewport_{name}_{side}": pl.List(pl.Float32) for name in ("share", "top", "bottom") for side in SIDES},
}
# Shares of a time are kept as whole parts of a ms, so that adding them up does not depend on the order.
PARTS = 2**24


def with_viewport(trajectories: pl.DataFrame) -> pl.DataFrame:
    """Rows of the `trajectories` config, with empty lists if their source does not say what was on the screen."""
    none = {name: pl.lit([], type_) for name, type_ in LISTS.items() if name not in trajectories.columns}
    height = {} if "viewport_height" in trajectories.columns else {"viewport_height": pl.lit(None, pl.Int32)}
    return trajectories.with_columns(**none, **height)


def views(trajectories: pl.DataFrame) -> pl.DataFrame:
    """One row per answer and moment at which some of its text was on the screen.

    Args:
        trajectories: rows of the `trajectories` config, in any order.

    Returns:
        `question_id`, `side`, `t` (Int64, ms), `dt` (Int64, ms to the question's next moment, at most `MAX_VIEW_MS`, 0
        for the last), `first`, `last` (Int64, the first and last character on the screen, code points), `chars` (Int64,
        how many that are), `length` (Int64, of the answer), `share` and `central` (Int64, in 2^-24 ms): what is this
        answer's of `dt` if every character on the screen, of both answers, gets the same; and if it gets the more the
        closer it is to the middle of the window, where a character in the middle counts 1 and one at the top or bottom
        edge 0 (null without a window's height).
    """
    names = [*LISTS]
    long = (
        with_viewport(trajectories)
        .select("question_id", "length_left", "length_right", "viewport_height", *names)
        .filter(pl.col("viewport_t").list.len() > 0)
        .explode(names, empty_as_null=False)
        .rename({"viewport_t": "t"})
        .with_columns(pl.col("t").cast(pl.Int64))
        .with_columns(dt=(pl.col("t").shift(-1) - pl.col("t")).over("question_id").fill_null(0).clip(0, MAX_VIEW_MS))
        .with_columns(_chars(side).alias(f"chars_{side}") for side in SIDES)
        .with_columns((pl.col(f"chars_{side}") * _weight(side)).alias(f"weight_{side}") for side in SIDES)
    )
    both = [_of_side(long, side) for side in SIDES]
    return pl.concat(both).sort("question_id", "t", "side", maintain_order=True)


def _chars(side: str) -> pl.Expr:
    first, last = (pl.col(f"viewport_{name}_{side}").cast(pl.Int64) for name in ("first", "last"))
    return pl.when(first >= 0).then(last - first + 1).otherwise(0)


def _weight(side: str) -> pl.Expr:
    """The mean of 1 - |2 y / height - 1| over the visible part of an answer, in thousandths, at least 1."""
    height = pl.col("viewport_height").cast(pl.Float64)
    top, bottom = (pl.col(f"viewport_{name}_{side}").cast(pl.Float64).clip(0, height) for name in ("top", "bottom"))

    def upto(y: pl.Expr) -> pl.Expr:
        return pl.when(2 * y <= height).then(y**2 / height).otherwise(2 * y - y**2 / height - height / 2)

    # The one line of a part that is less than a pixel high counts as its place.
    thin = 1 - (2 * top / height - 1).abs()
    mean = pl.when(bottom - top >= 1).then((upto(bottom) - upto(top)) / (bottom - top)).otherwise(thin)
    return (1_000 * mean).round().cast(pl.Int64).clip(1)


def _of_side(long: pl.DataFrame, side: str) -> pl.DataFrame:
    time = pl.col("dt") * PARTS

    def part(name: str) -> pl.Expr:
        mine = pl.col(f"{name}_{side}")
        # The answer that is not on the screen has no weight.
        return time * mine // (mine + pl.col(f"{name}_{'right' if side == 'left' else 'left'}").fill_null(0))

    return long.filter(pl.col(f"chars_{side}") > 0).select(
        "question_id",
        "t",
        "dt",
        side=pl.lit(side),
        first=pl.col(f"viewport_first_{side}").cast(pl.Int64),
        last=pl.col(f"viewport_last_{side}").cast(pl.Int64),
        chars=pl.col(f"chars_{side}"),
        length=pl.col(f"length_{side}").cast(pl.Int64),
        share=part("chars"),
        central=part("weight"),
    )


def on_screen(trajectories: pl.DataFrame) -> pl.DataFrame:
    """The rows of `views` with `new` (Int64): of the characters on the screen, how many no earlier row of the answer
    has, where rows are in the order of their first character."""
    answer = ["question_id", "side"]
    rows = views(trajectories).sort(*answer, "first", "t", maintain_order=True)
    before = pl.col("last").cum_max().shift(1, fill_value=-1).over(answer)
    return rows.with_columns(new=(pl.col("last") - pl.max_horizontal(pl.col("first") - 1, before)).clip(0))


VIEWPORT_MEASURES: tuple[Measure, ...] = (
    Measure(
        "dwell",
        "ms",
        "exposure",
        "sum of dt while any of the answer's text was on the screen",
        pl.col("dt").sum(),
        unseen=0.0,
    ),
    Measure(
        "exposure",
        "ms",
        "exposure",
        "sum of dt * the share of this answer in the characters on the screen",
        pl.col("share").sum() / PARTS,
        unseen=0.0,
    ),
    Measure(
        "central_exposure",
        "ms",
        "exposure",
        "the same, where a character counts 1 in the middle of the window and linearly less to 0 at its top and bottom",
        pl.col("central").sum() / PARTS,
        unseen=0.0,
    ),
    Measure(
        "exposure_per_char",
        "ms",
        "exposure",
        "mean time that a character of the answer was on the screen",
        (pl.col("dt") * pl.col("chars")).sum() / pl.col("length").first().clip(1),
        unseen=0.0,
    ),
    Measure(
        "coverage",
        "share",
        "exposure",
        "share of the answer's characters that were ever on the screen",
        pl.col("new").sum() / pl.col("length").first().clip(1),
        unseen=0.0,
        high=1.0,
    ),
)
# As `catalog.LOG_RATIO_FLOORS`.
VIEWPORT_FLOORS = {"dwell": 500, "exposure": 500, "central_exposure": 500, "exposure_per_char": 1}
