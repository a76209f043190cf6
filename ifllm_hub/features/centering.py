"""What a reading says beyond the reader's habit: contrasts centered by worker.

Some people read the left answer longer whatever it says; some let the cursor rest on the right one. Such habits are a
fifth to a third of the variance of the contrasts below (docs/results/reward_ideas.md), and say nothing about which
answer is better. They are estimated from a person's readings alone, without labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import fsum

import polars as pl

from ifllm_hub.features.catalog import CATALOG

# A worker's mean is shrunk as if there were this many more readings, without any habit. The best such number for normal
# contrasts (empirical Bayes) is the ratio of the variance within workers to that between them: 2 to 4 for these
# contrasts on the release (eval/studies/reward_ideas.py).
PRIOR_READINGS = 3

# Contrasts of the reward model that the `features` config also has in centered form.
HABITUAL = ("mouse_dwell_log_ratio", "mouse_coverage_diff", "gaze_dwell_log_ratio", "gaze_coverage_diff")
SUFFIX = "_centered"
# The same by `center_by_past`, which no config has: `load_pairs` adds it.
CAUSAL_SUFFIX = "_centered_causal"

# What `center_by_worker` adds, declared like the catalog; "odd" refers to swapping all of a worker's questions.
LESS_HABIT = tuple(
    replace(
        feature,
        name=feature.name + SUFFIX,
        family="habit",
        formula=f"{feature.name} minus the worker's habit, sum(x) / (n + {PRIOR_READINGS}) over the n readings",
        low=None,
        high=None,
    )
    for feature in CATALOG
    if feature.name in HABITUAL
)


def center_by_worker(rows: pl.DataFrame, features: Sequence[str] = HABITUAL) -> pl.DataFrame:
    """Center contrasts by worker: x - sum(x) / (n + PRIOR_READINGS), over the worker's n rows that have x.

    Swapping the sides of all of a worker's questions changes the sign of the result exactly. A person with one
    reading keeps three quarters of each contrast.

    Args:
        rows: `worker_id` and the features, in any order.
        features: left-minus-right contrasts.

    Returns:
        `rows`, and for each feature a Float64 column with `SUFFIX` after its name, null where the feature is null.

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.features.centering import center_by_worker
        >>> rows = pl.DataFrame({"worker_id": ["ada", "ada", "ada", "bo"], "lean": [1.0, 1.0, 4.0, 2.0]})
        >>> center_by_worker(rows, ["lean"])["lean_centered"].to_list()
        [0.0, 0.0, 3.0, 1.5]
    """
    readings = rows.group_by("worker_id").agg(pl.col(features).drop_nulls())
    habits = readings.select("worker_id", pl.col(features).map_elements(_habit, return_dtype=pl.Float64))
    joined = rows.select("worker_id").join(habits, on="worker_id", how="left", maintain_order="left")
    return rows.with_columns((rows[name] - joined[name]).alias(name + SUFFIX) for name in features)


def _habit(readings: pl.Series) -> float:
    """Summed exactly and rounded once, so that neither the order nor the grouping of the rows matters."""
    return fsum(readings) / (len(readings) + PRIOR_READINGS)


def center_by_past(rows: pl.DataFrame, features: Sequence[str] = HABITUAL) -> pl.DataFrame:
    """As `center_by_worker`, with the habit as it was known at the question: from earlier readings and its own.

    This is what a score in a live chat can know. Readings at the same time count as in the order of `question_id`.

    Args:
        rows: `worker_id`, `asked_at`, `question_id` and the features, in any order.
        features: left-minus-right contrasts.

    Returns:
        `rows`, and for each feature a Float64 column named with `CAUSAL_SUFFIX` behind it, null where the feature is.

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.features.centering import center_by_past
        >>> rows = pl.DataFrame({"worker_id": "ada", "asked_at": [2, 1], "question_id": ["b", "a"], "lean": [4.0, 1.0]})
        >>> center_by_past(rows, ["lean"])["lean_centered_causal"].to_list()
        [3.0, 0.75]
    """
    habits = {
        name: (pl.col(name).fill_null(0.0).cum_sum() / (pl.col(name).cum_count() + PRIOR_READINGS)).over(
            "worker_id", order_by=["asked_at", "question_id"]
        )
        for name in features
    }
    return rows.with_columns((pl.col(name) - habit).alias(name + CAUSAL_SUFFIX) for name, habit in habits.items())
