"""How many readers a study needs to detect that a label source is right more often than the longer answer.

What a pair gains is 1 where the source's label is the reader's own and the longer answer is not, -1 the other way
round, else 0 (a pair without a label counts half). It is the true gain, plus an effect of the reader, plus chance. The
test is that of `statistics.jackknife_mean`: two-sided at 5 %, Student's t with the degrees of freedom that readers of
unequal size leave. Its power is that of a noncentral t, averaged over studies whose readers rate as many pairs as
readers of the pilot, drawn with replacement.

It plans for that test, of labels that use later readings too, not for the permutation test of the registered claim
(`reward/protocol/claim.py`), which is about the readers at hand and can find more with fewer.

How much readers differ is known badly from few of them. So the plan is made twice: with the variance that the pilot
estimates, and with care, at the upper limit of its one-sided 80 % interval (Browne 1995, Statistics in Medicine 14).
"""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy import optimize, stats

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.value import worth_by_source
from ifllm_hub.statistics import Estimate, anova_size, components, left_out, residual_form

ALPHA = 0.05
# One-sided, of what the pilot estimates.
CARE = 0.8
_REFERENCE = "longer"
# Studies drawn for a plan; with many readers their sizes add up to nearly the same, and fewer do.
_FEWEST_DRAWS, _MOST_DRAWS, _READERS_DRAWN = 20, 400, 40_000
_MOST_READERS = 20_000


@dataclass(frozen=True)
class Pilot:
    """What a plan takes from a study that was made.

    Attributes:
        name: which study.
        sizes: rated pairs of each reader.
        within: variance of the gain of a pair, for one reader.
        between: variance of the gain between readers.
        between_at_most: its upper limit, see above.
        reading: what the label of one pair that was read is worth in explicit labels, as measured; its two-sided 60 %
            interval, whose lower end is the one-sided 80 % limit. None if not known.
        beyond: how much more that is than by the longer answer, likewise.
    """

    name: str
    sizes: tuple[int, ...]
    within: float
    between: float
    between_at_most: float
    reading: Estimate | None = None
    beyond: Estimate | None = None

    def assuming(self, pairs_per_reader: float | None = None, between_sd: float | None = None) -> "Pilot":
        """The same with as unequal readers of another mean size, and another SD of the gain between readers."""
        pilot = self
        if pairs_per_reader is not None:
            factor = pairs_per_reader / np.mean(self.sizes)
            pilot = replace(pilot, sizes=tuple(max(1, round(size * factor)) for size in self.sizes))
        if between_sd is not None:
            pilot = replace(pilot, between=between_sd**2, between_at_most=between_sd**2)
        return pilot


# What `pilot_of` gives for the study's release, labeled by `ifllm label`.
STUDY = Pilot(
    name="the IFLLM study",
    sizes=(
        *(120, 85, 62, 37, 36, 34, 28, 21, 18, 15, 15, 10, 9, 9, 9, 9, 9, 9, 9, 8, 8, 8, 7),
        *(7, 6, 6, 6, 6, 6, 6, 6, 4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 2, 2),
    ),
    within=0.2042,
    between=0.0,
    between_at_most=0.0013,
    reading={"mean": 0.117, "low": 0.092, "high": 0.145},
    beyond={"mean": 0.033, "low": 0.020, "high": 0.046},
)


@dataclass(frozen=True)
class Plan:
    """A study that has the power asked for.

    Attributes:
        readers: how many.
        pairs: how many they rate, on average over studies.
        power: to detect the gain.
        standard_error: of the gain, on average over studies.
        df: degrees of freedom of the test, likewise.
    """

    readers: int
    pairs: float
    power: float
    standard_error: float
    df: float


def readings_for(labels: float, reading: Estimate | None) -> tuple[float, float]:
    """How many readings are worth so many explicit labels: as measured, and with care; inf for none that were enough.

    Args:
        labels: explicit ones.
        reading: what one is worth, `Pilot.reading` or `Pilot.beyond`.
    """
    if reading is None:
        return math.inf, math.inf
    mean, low = (labels / worth if worth > 0 else math.inf for worth in (reading["mean"], reading["low"]))
    return mean, low


def pilot_of(dataset: str | Path, label_source: str = "forest") -> Pilot:
    """The pilot that a labeled dataset is, both splits together.

    Args:
        dataset: a dataset folder or Hub repo id with labels.
        label_source: whose gain over the longer answer.

    Raises:
        IfllmError: the dataset cannot be read, or lacks these labels, explicit ones or `longer`, or has rated pairs of
            fewer than two readers.

    Examples:
        >>> from ifllm_hub.preferences.plan import pilot_of
        >>> pilot_of("ifllm").sizes
        (7, 6, 3, 3, 3, 3)
    """
    worths = worth_by_source(dataset)
    if missing := [name for name in ("explicit", label_source, _REFERENCE) if name not in worths]:
        raise IfllmError(f"{dataset}: has no labels of {', '.join(missing)}. Write them with `ifllm label`.")
    gain, readers = gains_of(dataset, label_source)
    sizes = np.unique(readers, return_counts=True)[1]
    if len(sizes) < 2:
        raise IfllmError(f"{dataset}: has rated pairs of {len(sizes)} reader(s), and a pilot needs two. Add readers.")
    within, between = components(gain, readers)
    if not gain.any():
        raise IfllmError(f"{dataset}: labels of {label_source} are as often right as {_REFERENCE} on every pair.")
    beyond = worths[label_source].beyond(worths[_REFERENCE])
    return Pilot(
        name=str(dataset),
        sizes=tuple(sorted(sizes.tolist(), reverse=True)),
        within=within,
        between=max(between, 0.0),
        between_at_most=_at_most(gain, readers),
        reading=worths[label_source].per_reading(2 * CARE - 1),
        beyond={"mean": beyond.mean, **beyond.interval(2 * CARE - 1)},
    )


def plan_study(pilot: Pilot, gain: float, power: float, between: float) -> Plan:
    """The smallest study with some power.

    Args:
        gain: true gain in accuracy, above 0.
        power: in (0, 1).
        between: variance of the gain between readers, instead of that of the pilot.

    Raises:
        IfllmError: more than 20,000 readers are needed.

    Examples:
        >>> from ifllm_hub.preferences.plan import STUDY, plan_study
        >>> plan_study(STUDY, gain=0.05, power=0.8, between=STUDY.between).readers
        56
    """
    low, high = 1, 2
    while _study(pilot, gain, between, high).power < power:
        low, high = high, 2 * high
        if low >= _MOST_READERS:
            raise IfllmError(
                f"A gain of {gain:g} needs more than {_MOST_READERS:,} readers like those of {pilot.name}. Plan for a "
                "larger one."
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _study(pilot, gain, between, middle).power >= power else (middle, high)
    return _study(pilot, gain, between, high)


def _study(pilot: Pilot, gain: float, between: float, readers: int) -> Plan:
    rng = np.random.default_rng(0)
    draws = min(max(_READERS_DRAWN // readers, _FEWEST_DRAWS), _MOST_DRAWS)
    sizes = rng.choice(pilot.sizes, (draws, readers)).astype(float)
    pairs = sizes.sum(axis=1)
    true = (sizes * pilot.within + sizes**2 * between).sum(axis=1) / pairs**2
    estimated = (readers - 1) / readers * residual_form(left_out(sizes), sizes, pilot.within, between)[0] / pairs**2
    # The test knows the variance between readers only as its study estimates it, and takes degrees of freedom by that.
    among, of_among = residual_form(1 / sizes, sizes, pilot.within, between)
    seen = among / (readers - 1) * rng.chisquare(of_among) / of_among
    seen_between = np.maximum((seen - pilot.within) / anova_size(sizes), 0.0)
    df = residual_form(left_out(sizes), sizes, pilot.within, seen_between[:, None])[1]
    bound = stats.t.isf(ALPHA / 2, df) * np.sqrt(estimated / true)
    shift = gain / np.sqrt(true)
    power = stats.nct.sf(bound, df, shift) + stats.nct.cdf(-bound, df, shift)
    return Plan(readers, float(pairs.mean()), float(power.mean()), float(np.sqrt(true).mean()), float(df.mean()))


def gains_of(dataset: str | Path, label_source: str) -> tuple[np.ndarray, np.ndarray]:
    """What each rated pair of a labeled dataset gains, and whose it is: both (pairs,)."""
    text = pl.col("chosen").list.first().struct.field("content")
    rows = load_config(dataset, preferences_config("explicit")).select("question_id", "worker_id", own=text)
    hits = {}
    for source in (label_source, _REFERENCE):
        labels = load_config(dataset, preferences_config(source)).select("question_id", text=text)
        same = rows.join(labels, on="question_id", how="left", maintain_order="left")
        hits[source] = same.select((pl.col("text") == pl.col("own")).cast(pl.Float64).fill_null(0.5)).to_series()
    return (hits[label_source] - hits[_REFERENCE]).to_numpy(), rows["worker_id"].to_numpy()


def _at_most(gain: np.ndarray, readers: np.ndarray) -> float:
    """The variance between readers with which the mean square among them is so small in 20 of 100 studies."""
    codes, sizes = np.unique(readers, return_inverse=True, return_counts=True)[1:]
    within = components(gain, readers)[0]
    among = ((np.bincount(codes, gain) - sizes * gain.mean()) ** 2 / sizes).sum()

    def surplus(between: float) -> float:
        mean, df = residual_form(1 / sizes, sizes, within, between)
        return float(mean * stats.chi2.ppf(1 - CARE, df) / df - among)

    if surplus(0.0) >= 0:
        return 0.0
    # A gain lies between -1 and 1, so its variance between readers is at most 1.
    return float(optimize.brentq(surplus, 0.0, 1.0)) if surplus(1.0) > 0 else 1.0
