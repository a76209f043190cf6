"""What arms are compared on: at most one number a question, as far as it was recorded."""

from dataclasses import dataclass

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.terms import SIDES


@dataclass(frozen=True)
class Outcome:
    """A measure of how the answer to a question was received; of two answers, their mean, or either for a share.

    Attributes:
        name: of the column.
        unit: of each value; of a share, a value is 1 or 0.
        meaning: what it says, and when it is null.
        value: of the columns of `pairwise` and `signals`; with one answer, it is the left one.
    """

    name: str
    unit: str
    meaning: str
    value: pl.Expr


def _sides(name: str) -> list[str]:
    return [f"{name}_{side}" for side in SIDES]


_THUMBS = pl.col(_sides("thumb"))
_SAID = pl.col(*_sides("rating"), "preference", "better_than_previous", *_sides("thumb"))

OUTCOMES = (
    Outcome("rating", "points", "rating from 1 to 5; null if not rated", pl.mean_horizontal(_sides("rating"))),
    Outcome("thumbs_up", "share", "thumb up, not down; null without a thumb", pl.mean_horizontal(_THUMBS == 1)),
    Outcome(
        "judged",
        "share",
        "rated, preferred or given a thumb: arms that differ here are judged by other people or on other questions",
        pl.any_horizontal(_SAID.is_not_null()),
    ),
    Outcome("copied", "share", "some of it was copied", pl.max_horizontal(_sides("copied")) > 0),
    Outcome("regenerated", "share", "another answer was asked for", pl.col("regenerated")),
    Outcome("followed_up", "share", "another question followed in the conversation", pl.col("followed_up")),
    Outcome(
        "length",
        "code points",
        "length of the answer",
        pl.mean_horizontal(pl.col(_sides("response")).str.len_chars()),
    ),
)


def read_outcomes(dataset: str) -> pl.DataFrame:
    """The questions of a collected dataset: `worker_id`, `arm`, `propensity`, and the outcomes, as float64.

    Args:
        dataset: a dataset folder or Hub repo id. What was not collected has no arms.

    Raises:
        IfllmError: it cannot be read.
    """
    signals = load_config(dataset, "signals").drop("worker_id", "mode", "split")
    pairs = load_config(dataset, "pairwise")
    single = load_config(dataset, "pointwise").rename({"response": "response_left", "rating": "rating_left"})
    questions = pl.concat([pairs, single], how="diagonal").join(signals, on="question_id")
    values = [outcome.value.cast(pl.Float64).alias(outcome.name) for outcome in OUTCOMES]
    return questions.select("worker_id", "arm", "propensity", *values)
