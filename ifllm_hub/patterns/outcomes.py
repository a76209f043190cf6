"""From the long table to what is compared: one measure at a time, on the scale it is modeled on, within workers."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.measures import MEASURES, Measure
from ifllm_hub.statistics import Jackknife, jackknife_sums
from ifllm_hub.terms import MODALITIES


@dataclass(frozen=True)
class Variable:
    """What is compared.

    Attributes:
        name: of `patterns.measures`, or "rating", "preference", ...
        title: for figures and tables.
        unit: of its values.
        modality: "mouse", "gaze", "both", or "" for what is no reading.
        log: whether its natural logarithm is modeled.
    """

    name: str
    title: str
    unit: str
    modality: str = ""
    log: bool = False


@dataclass(frozen=True)
class Outcome:
    """One measure by one modality.

    Attributes:
        measure: its declaration.
        variable: the same, by this modality.
        rows: those of `patterns.measures.measured`, with `y` (Float64): the value, or its natural logarithm where the
            measure's scale is "log" (without the values that have none), sorted as the table is.
    """

    measure: Measure
    variable: Variable
    rows: pl.DataFrame

    @property
    def y(self) -> np.ndarray:
        """(n,) float64."""
        return self.rows["y"].to_numpy()


def outcomes(table: pl.DataFrame) -> list[Outcome]:
    """The table of `measured`, a measure and modality at a time, in the order of `MEASURES`."""
    logs = [measure.name for measure in MEASURES if measure.scale == "log"]
    value, is_log = pl.col("value"), pl.col("measure").is_in(logs)
    rows = table.filter(~is_log | (value > 0)).with_columns(y=pl.when(is_log).then(value.log()).otherwise(value))
    parts = rows.partition_by("measure", "modality", as_dict=True, maintain_order=True)
    return [
        Outcome(measure, _by(measure, modality), parts[measure.name, modality])
        for measure in MEASURES
        for modality in (*MODALITIES, "both")
        if (measure.name, modality) in parts
    ]


def _by(measure: Measure, modality: str) -> Variable:
    return Variable(measure.name, measure.title, measure.unit, modality, measure.scale == "log")


def codes(rows: pl.DataFrame, *columns: str) -> np.ndarray:
    """(n,) int64 from 0: which rows are alike in these columns."""
    alike = pl.concat_str(columns, separator="\n").rank("dense").cast(pl.Int64) - 1
    return rows.select(alike).to_series().to_numpy()


def centered(values: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """(n,) values less their mean in each of the (n,) strata."""
    sums, sizes = np.bincount(strata, values), np.bincount(strata)
    return np.asarray(values - (sums / np.maximum(sizes, 1))[strata])


def varies(values: np.ndarray, strata: np.ndarray) -> np.ndarray:
    """(n,) bool: whether the values differ within the row's stratum; others say nothing of a slope within strata."""
    low, high = np.full(strata.max(initial=0) + 1, np.inf), np.full(strata.max(initial=0) + 1, -np.inf)
    np.minimum.at(low, strata, values)
    np.maximum.at(high, strata, values)
    return (low < high)[strata]


@dataclass(frozen=True)
class Within:
    """A slope within strata, and how many rows and workers it rests on (those in whose strata `x` varies)."""

    slope: Jackknife
    n: int
    workers: int


def slope_within(x: np.ndarray, y: np.ndarray, strata: np.ndarray, workers: np.ndarray) -> Within | None:
    """Least-squares slope of y on x with an intercept for each stratum; None if x or y varies in no worker, or in one.

    A stratum counts by the sum of squares of x in it. For x of 0 and 1, the slope is the mean of the strata's
    differences, weighted by n1 n0 / (n1 + n0) ("overlap"). The interval leaves out one worker at a time.

    Args:
        x, y: (n,) float64.
        strata, workers: (n,) int64; a stratum has rows of one worker only.
    """
    told = varies(x, strata)
    x, y, strata, workers = x[told], y[told], strata[told], workers[told]
    count = len(np.unique(workers))
    if count < 2 or not varies(y, strata).any():
        return None
    x, y = centered(x, strata), centered(y, strata)
    parts = np.column_stack([x * x, x * y])
    return Within(jackknife_sums(lambda sums: sums[..., 1] / sums[..., 0], parts, workers), len(x), count)


def effect_of(
    family: str, what: str, variable: Variable, found: Jackknife, n: int, workers: int, randomized: float | None = None
) -> Effect:
    """An effect on a variable, in its unit, or as a change in % where its logarithm is modeled.

    Args:
        what: is compared; the variable's title and modality are added to it.
        n, workers: what it rests on.
        randomized: p value of a randomization test, which is taken for the jackknife's.
    """
    ends = found.estimate
    mean, low, high = ends["mean"], ends["low"], ends["high"]
    if variable.log:
        with np.errstate(over="ignore"):
            mean, low, high = (float(100 * np.expm1(one)) for one in (mean, low, high))
    by = {"": "", "both": ", mouse and gaze"}.get(variable.modality, f", {variable.modality}")
    return Effect(
        family=family,
        name=f"{what}: {variable.title}{by}",
        measure=variable.name,
        modality=variable.modality,
        unit="%" if variable.log else variable.unit,
        mean=mean,
        low=low,
        high=high,
        p=found.p if randomized is None else randomized,
        test="jackknife" if randomized is None else "randomization",
        n=n,
        workers=workers,
    )
