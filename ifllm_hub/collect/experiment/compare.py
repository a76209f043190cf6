"""What differs between the arms of an experiment, with intervals over people.

The mean of an outcome in an arm is Hajek's: every question weighs 1 / propensity, and the weights of an arm are scaled
to add up to 1 (Hájek 1971). With constant propensities that is the plain mean; where they changed during the
experiment, it is the mean as if all arms had had the same people at all times. Questions of one person are alike, so
intervals come from leaving out one person at a time (`ifllm_hub.statistics.Jackknife`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import numpy as np
import polars as pl

from ifllm_hub.collect.experiment.outcomes import OUTCOMES
from ifllm_hub.errors import IfllmError
from ifllm_hub.statistics import Jackknife, holm, jackknife_sums

# Of the largest value: moves of a mean below that are rounding, by which values that are all the same seem to differ.
_ROUNDING = 1e-12
# What was assigned to an arm.
Unit = Literal["person", "question"]


class Arm(TypedDict):
    """An arm, and how much was recorded in it; `propensity` is None where it changed during the experiment."""

    arm: str
    people: int
    questions: int
    propensity: float | None


class SampleRatio(TypedDict):
    """Do the numbers of people (or of questions) in the arms fit the propensities? Pearson's chi-square."""

    chi_square: float
    df: int
    p: float


class Mean(TypedDict):
    """An outcome in an arm: in how many questions, of how many people, and the mean with its 95 % interval.

    Without a question there is no mean, and with a single person no interval.
    """

    arm: str
    people: int
    questions: int
    mean: float | None
    low: float | None
    high: float | None


class Difference(TypedDict):
    """The mean in an arm less that in the control, its 95 % interval, the p value, and that adjusted for all (Holm).

    All but `mean` are None where there is nothing to estimate an error from: an arm with a single person, or values
    that do not differ between people.
    """

    arm: str
    mean: float
    low: float | None
    high: float | None
    p: float | None
    adjusted_p: float | None


class Compared(TypedDict):
    """One outcome."""

    outcome: str
    unit: str
    meaning: str
    means: list[Mean]
    differences: list[Difference]


class Comparison(TypedDict):
    """All that is compared; the first arm is the control.

    Attributes:
        sample_ratio: None where the propensity of an arm changed.
        propensities: what those of the compared arms add up to; less than 1 if an arm is not among them. Likewise None.
    """

    unit: Unit
    arms: list[Arm]
    propensities: float | None
    sample_ratio: SampleRatio | None
    outcomes: list[Compared]


@dataclass(frozen=True)
class Sample:
    """An outcome in an arm.

    Attributes:
        values: (n,) one a question.
        weights: (n,) 1 / propensity.
        workers: (n,) whose question it is.
    """

    values: np.ndarray
    weights: np.ndarray
    workers: np.ndarray

    @property
    def mean(self) -> Jackknife:
        """Hajek's; of one question at least."""
        parts = np.stack([self.weights * self.values, self.weights], axis=1)
        found = jackknife_sums(lambda sums: sums[..., 0] / sums[..., 1], parts, self.workers)
        told = np.abs(found.moves) > _ROUNDING * np.abs(self.values).max()
        return replace(found, moves=np.where(told, found.moves, 0.0))

    def less(self, control: "Sample") -> Jackknife:
        """The difference of two means, of arms that may share people.

        Its degrees of freedom are Welch's: if one arm has few people, they are about those of its own mean.
        """
        one, other = self.mean, control.mean
        mean = one.mean - other.mean
        if not len(one.moves) or not len(other.moves):
            return Jackknife(mean, np.zeros(0), math.nan)
        people = np.union1d(self.workers, control.workers)
        moves = np.zeros(len(people))
        moves[np.searchsorted(people, np.unique(self.workers))] = one.moves
        moves[np.searchsorted(people, np.unique(control.workers))] -= other.moves
        variances = np.array([one.standard_error, other.standard_error]) ** 2
        squares = (variances**2 / (one.df, other.df)).sum()
        return Jackknife(mean, moves, float(variances.sum() ** 2 / squares) if squares else math.nan)


def compare_arms(rows: pl.DataFrame, arms: Sequence[str] = (), unit: Unit = "person") -> Comparison:
    """Compare arms on every outcome that was recorded.

    Args:
        rows: one a question: `worker_id`, `arm` and `propensity`, and those of `OUTCOMES` that there are, null where
            they were not recorded. Rows without an arm are left out.
        arms: which to compare, the control first; none: all, in the order of their names.
        unit: what was assigned. A person whose arm was drawn once is in one arm alone; if it was drawn for each
            question, a person may be in several. Intervals are over people in both cases.

    Raises:
        IfllmError: no row has an arm, all are in one, an arm that was asked for does not exist, or, with `person`,
            somebody is in several.

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.collect.experiment.compare import compare_arms
        >>> people = pl.DataFrame({"worker_id": ["ada", "bo", "cy", "di"], "arm": ["A", "A", "B", "B"]})
        >>> rated = people.with_columns(propensity=0.5, rating=pl.Series([3.0, 4.0, 4.0, 5.0]))
        >>> compare_arms(rated)["outcomes"][0]["differences"][0]["mean"]
        1.0
    """
    names, rows = _of_arms(rows.filter(pl.col("arm").is_not_null()), arms)
    if unit == "person":
        _check_one_arm_each(rows)
    counted = [_counted(rows, arm) for arm in names]
    told = [one for one in OUTCOMES if one.name in rows.columns and rows[one.name].is_not_null().any()]
    samples = {(outcome.name, arm): _sample(rows, outcome.name, arm) for outcome in told for arm in names}
    found = {
        (name, arm): sample.less(control)
        for (name, arm), sample in samples.items()
        if arm != names[0] and len(sample.values) and len((control := samples[name, names[0]]).values)
    }
    tested = {key: one.p for key, one in found.items() if one.moves.any()}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    propensities = [arm["propensity"] for arm in counted if arm["propensity"] is not None]
    constant = len(propensities) == len(names)
    units = [arm["people"] if unit == "person" else arm["questions"] for arm in counted]
    return {
        "unit": unit,
        "arms": counted,
        "propensities": sum(propensities) if constant else None,
        "sample_ratio": _sample_ratio(units, propensities) if constant else None,
        "outcomes": [
            {
                "outcome": outcome.name,
                "unit": outcome.unit,
                "meaning": outcome.meaning,
                "means": [_mean(arm, samples[outcome.name, arm]) for arm in names],
                "differences": [
                    _difference(arm, found[key], adjusted.get(key))
                    for arm in names
                    if (key := (outcome.name, arm)) in found
                ],
            }
            for outcome in told
        ],
    }


def _of_arms(rows: pl.DataFrame, arms: Sequence[str]) -> tuple[list[str], pl.DataFrame]:
    """The names of the arms to compare, and their rows."""
    there = sorted(rows["arm"].unique())
    if not there:
        raise IfllmError("No question has an arm. Register answers with `arm` and `propensity` (docs/loop.md).")
    for arm in arms:
        if arm not in there:
            raise IfllmError(f"There is no arm {arm!r} in this dataset, only {', '.join(map(repr, there))}.")
    names = list(dict.fromkeys(arms or there))
    if len(names) < 2:
        raise IfllmError(f"{names[0]!r} is the only arm to compare. It takes two.")
    return names, rows.filter(pl.col("arm").is_in(names))


def _check_one_arm_each(rows: pl.DataFrame) -> None:
    several = rows.group_by("worker_id").agg(pl.col("arm").n_unique()).filter(pl.col("arm") > 1)["worker_id"].sort()
    if len(several):
        raise IfllmError(
            f"{len(several)} people are in several arms (the first: {several[0]}). If the arm was drawn anew for each "
            "question, say so (--unit question). If there were several experiments, name the arms of one (--arm)."
        )


def _counted(rows: pl.DataFrame, arm: str) -> Arm:
    rows = rows.filter(arm=arm)
    propensities = rows["propensity"].unique()
    constant = float(propensities[0]) if len(propensities) == 1 else None
    return {"arm": arm, "people": rows["worker_id"].n_unique(), "questions": rows.height, "propensity": constant}


def _sample_ratio(units: list[int], propensities: list[float]) -> SampleRatio:
    from scipy import stats

    found = stats.chisquare(units, sum(units) * np.array(propensities) / sum(propensities))
    return {"chi_square": float(found.statistic), "df": len(units) - 1, "p": float(found.pvalue)}


def _sample(rows: pl.DataFrame, outcome: str, arm: str) -> Sample:
    rows = rows.filter(arm=arm).drop_nulls(outcome)
    values = rows[outcome].cast(pl.Float64).to_numpy()
    return Sample(values, 1 / rows["propensity"].to_numpy(), rows["worker_id"].to_numpy())


def _mean(arm: str, sample: Sample) -> Mean:
    people, questions = len(np.unique(sample.workers)), len(sample.values)
    if not questions:
        return {"arm": arm, "people": 0, "questions": 0, "mean": None, "low": None, "high": None}
    found = sample.mean
    low, high = _interval(found)
    return {"arm": arm, "people": people, "questions": questions, "mean": found.mean, "low": low, "high": high}


def _difference(arm: str, found: Jackknife, adjusted: float | None) -> Difference:
    low, high = _interval(found)
    p = None if adjusted is None else found.p
    return {"arm": arm, "mean": found.mean, "low": low, "high": high, "p": p, "adjusted_p": adjusted}


def _interval(found: Jackknife) -> tuple[float, float] | tuple[None, None]:
    """None where nobody moves the estimate: values that are all the same say nothing about its error."""
    if not found.moves.any():
        return None, None
    interval = found.interval()
    return interval["low"], interval["high"]
