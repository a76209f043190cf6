"""What a reading says beyond the reader's habit: contrasts centered by worker.

Some people read the left answer longer whatever it says; some let the cursor rest on the right one. Such habits are a
fifth to a third of the variance of the contrasts below (docs/results/reward_ideas.md), and say nothing about which
answer is better. They are estimated from a person's readings alone, without labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import fsum, isfinite

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.features.catalog import CATALOG

# A worker's mean is shrunk as if there were this many more readings, without any habit. The best such number for normal
# contrasts (empirical Bayes) is the ratio of the variance within workers to that between them: 2 to 4 for these
# contrasts on the release (eval/studies/reward_ideas.py).
PRIOR_READINGS = 3

# Contrasts of the reward model that the `features` config also has in centered form, in the order of the catalog.
HABITUAL = ("mouse_coverage_diff", "mouse_dwell_log_ratio", "gaze_coverage_diff", "gaze_dwell_log_ratio")
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


def habit_states(rows: pl.DataFrame, features: Sequence[str] = HABITUAL) -> pl.DataFrame:
    """What is to be kept of readings for `center_by_worker`; states of parts of the rows merge without an error.

    A state is an exact sum: the nearest float64, then the nearest to what is left, until nothing is left. So a state is
    the same to the bit whichever way the rows were parted, and has at most 40 numbers, seldom more than three.

    Args:
        rows: `worker_id` and the features, in any order.
        features: left-minus-right contrasts.

    Returns:
        One row per `worker_id` and `feature`, sorted by these: `n` (Int64, readings that have the feature) and `parts`
        (list of Float64, non-overlapping numbers whose sum is that of the readings; empty for 0).

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.features.centering import habit_states
        >>> states = habit_states(pl.DataFrame({"worker_id": "ada", "lean": [1e17, 1.0, None, 1.5]}), ["lean"])
        >>> states.row(0)
        ('ada', 'lean', 3, [1e+17, 2.5])
    """
    readings = rows.group_by("worker_id").agg(pl.col(features).drop_nulls().cast(pl.Float64))
    long = readings.unpivot(features, index="worker_id", variable_name="feature", value_name="parts")
    return _exact(long.with_columns(n=pl.col("parts").list.len().cast(pl.Int64)))


def merge_states(states: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The states of all rows, from those of any parts of the rows, in any order.

    Args:
        states: at least one, each from `habit_states` or from here.

    Returns:
        As `habit_states` of all rows, to the bit.

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.features.centering import habit_states, merge_states
        >>> rows = pl.DataFrame({"worker_id": ["ada", "bo", "ada"], "lean": [0.1, 0.2, 0.3]})
        >>> merge_states([habit_states(part, ["lean"]) for part in (rows[:2], rows[2:])]).rows()
        [('ada', 'lean', 2, [0.4, -2.7755575615628914e-17]), ('bo', 'lean', 1, [0.2])]
    """
    together = pl.concat(states).group_by("worker_id", "feature")
    return _exact(together.agg(pl.col("n").sum(), pl.col("parts").explode(empty_as_null=False)))


def _exact(sums: pl.DataFrame) -> pl.DataFrame:
    """States, sorted, from `parts` that are any lists of numbers with the same sums."""
    parts = pl.Series([_expansion(numbers) for numbers in sums["parts"].to_list()], dtype=pl.List(pl.Float64))
    return sums.select("worker_id", "feature", "n", parts=parts).sort("worker_id", "feature")


def _expansion(numbers: list[float]) -> list[float]:
    """Their sum as float64 numbers that do not overlap, largest first: the shortest such (COMPRESS in Shewchuk 1997).

    J. R. Shewchuk, "Adaptive precision floating-point arithmetic and fast robust geometric predicates", Discrete &
    Computational Geometry 18:305-363; `math.fsum`, which rounds an exact sum once, rests on it too.
    """
    left, parts = list(numbers), []
    while part := fsum(left):
        parts.append(part)
        if not isfinite(part):
            break
        left.append(-part)
    return parts


def center_by_worker(
    rows: pl.DataFrame, features: Sequence[str] = HABITUAL, states: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Center contrasts by worker: x - sum(x) / (n + PRIOR_READINGS), over the worker's n rows that have x.

    Swapping the sides of all of a worker's questions changes the sign of the result exactly. A person with one
    reading keeps three quarters of each contrast. Neither the order nor the grouping of the rows matters.

    Args:
        rows: `worker_id` and the features, in any order.
        features: left-minus-right contrasts.
        states: of all readings of the rows' workers, where `rows` are only some of them; None: the rows' own.

    Returns:
        `rows`, and for each feature a Float64 column with `SUFFIX` after its name, null where the feature is null.

    Raises:
        IfllmError: a worker has no state, or more than one, of a feature.

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.features.centering import center_by_worker, habit_states
        >>> rows = pl.DataFrame({"worker_id": ["ada", "ada", "ada", "bo"], "lean": [1.0, 1.0, 4.0, 2.0]})
        >>> center_by_worker(rows, ["lean"])["lean_centered"].to_list()
        [0.0, 0.0, 3.0, 1.5]
        >>> center_by_worker(rows[:1], ["lean"], habit_states(rows, ["lean"]))["lean_centered"].to_list()
        [0.0]
    """
    habits = _own_habits(rows, features) if states is None else _known_habits(rows, features, states)
    joined = rows.select("worker_id").join(habits, on="worker_id", how="left", maintain_order="left")
    return rows.with_columns((rows[name] - joined[name]).alias(name + SUFFIX) for name in features)


def _own_habits(rows: pl.DataFrame, features: Sequence[str]) -> pl.DataFrame:
    readings = rows.group_by("worker_id").agg(pl.col(features).drop_nulls())
    return readings.select("worker_id", pl.col(features).map_elements(_habit, return_dtype=pl.Float64))


def _habit(readings: pl.Series) -> float:
    """Summed exactly and rounded once, so that neither the order nor the grouping of the rows matters."""
    return fsum(readings) / (len(readings) + PRIOR_READINGS)


def _known_habits(rows: pl.DataFrame, features: Sequence[str], states: pl.DataFrame) -> pl.DataFrame:
    key = ["worker_id", "feature"]
    needed = rows.select("worker_id").unique().join(pl.DataFrame({"feature": features}), how="cross")
    lacking = needed.join(states, on=key, how="anti")
    if not lacking.is_empty():
        worker, feature = lacking.sort(key).row(0)
        raise IfllmError(
            f"The habits have no state of '{feature}' for worker '{worker}' (in all, {lacking.height} are lacking). "
            "Make them with `habit_states` from all readings of these workers."
        )
    twice = states.filter(pl.struct(key).is_duplicated())
    if not twice.is_empty():
        raise IfllmError(
            f"The habits have more than one state of '{twice['feature'][0]}' for worker '{twice['worker_id'][0]}'. "
            "Put them together with `merge_states`."
        )
    # The first part is the sum, rounded once.
    habit = pl.col("parts").list.first().fill_null(0.0) / (pl.col("n") + PRIOR_READINGS)
    return states.with_columns(habit=habit).pivot("feature", index="worker_id", values="habit")


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
