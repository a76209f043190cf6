"""How reading goes with the length of the answer and of its rival.

Slopes and the shape of curves are within worker and mode: the same reader's longer against shorter answers. Lengths
were not assigned by a coin, so that what a question is about may lie behind both. Between workers, those who get longer
answers are other people who ask other questions; that slope is given for contrast, without a test. Where the logarithm
of a measure is modeled, a change is in %, and a curve runs through geometric means. A share that is near 0 or 1 for
most readings can hardly change: `floor` and `ceiling` say how many stand there.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.outcomes import Outcome, Variable, centered, codes, effect_of, outcomes, slope_within, varies
from ifllm_hub.statistics import Estimate, Jackknife, jackknife, jackknife_sums
from ifllm_hub.terms import SIDES

# Percentiles of the length between which a curve is drawn, and how many points.
ENDS = (5, 95)
POINTS = 40
# Percentiles of the length at which the spline has its knots: three degrees of freedom (Harrell 2015, table 2.3).
_KNOTS = (5, 35, 65, 95)
# Readings of fewer workers get no curve.
_LEAST_WORKERS = 4
_FAMILY = "length"


@dataclass(frozen=True)
class Curve:
    """A smooth curve with a pointwise 95 % band; all (40,), in the order of `x`.

    Attributes:
        x: length in code points, evenly spaced in its logarithm; or a share.
        mean, low, high: of the measure, for the mean of the readings; a band of a share may leave 0-1.
    """

    x: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Length:
    """One measure by one modality against the length.

    Attributes:
        measure, modality, title, unit: of the values; for measures of a pair the length is that of both answers.
        n, workers: readings with a value, and whose.
        floor, ceiling: share of the values at the smallest and at the largest possible value; None: unbounded.
        curve: None where there are too few workers, or too few lengths.
        own: the change for a doubling of the length, within worker and mode; None where nothing can be said.
        rival: the change for a doubling of the rival's length at the same own length, in pairs; None likewise.
        between: the slope of the workers' means on their mean log2 length, each worker counting once; on the same scale
            as `own` (in % where that is).
    """

    measure: str
    modality: str
    title: str
    unit: str
    n: int
    workers: int
    floor: float | None
    ceiling: float | None
    curve: Curve | None
    own: Effect | None
    rival: Effect | None
    between: Estimate | None


@dataclass(frozen=True)
class TimeShare:
    """The share of the time on the left answer against its share of both lengths, by one modality.

    Attributes:
        slope: within worker; 1 if time is in proportion to length, 0 if each answer gets the same. Time that is no
            reading, and gaze that is taken for being on the other answer, draw it toward 0.
        beyond: the same slope less 1, tested against 0: is time in proportion to length?
        curve: `x` is the left answer's share of the length.
    """

    modality: str
    slope: Effect
    beyond: Effect
    curve: Curve | None


@dataclass(frozen=True)
class Lengths:
    """All measures against the length, in the order of `MEASURES`; `effects`: every slope that was tested."""

    measures: list[Length]
    time_shares: list[TimeShare]
    effects: list[Effect]


def lengths(table: pl.DataFrame) -> Lengths:
    """Every measure against the length of the answer, and of its rival.

    Args:
        table: of `patterns.measures.measured`.
    """
    measures, shares = [], []
    of_left = table.filter(side=SIDES[0]).select("question_id", "length", "rival_length").unique("question_id")
    for outcome in outcomes(table.filter(pl.col("length") > 0)):
        measures.append(_against_length(outcome))
        if outcome.measure.name == "left_time_share" and (share := _time_share(outcome, of_left)):
            shares.append(share)
    tested = [effect for one in measures for effect in (one.own, one.rival) if effect]
    return Lengths(measures, shares, tested + [one.beyond for one in shares])


def _against_length(outcome: Outcome) -> Length:
    rows, y, measure, variable = outcome.rows, outcome.y, outcome.measure, outcome.variable
    x = np.log2(rows["length"].to_numpy())
    strata, workers = codes(rows, "worker_id", "mode"), codes(rows, "worker_id")
    own = slope_within(x, y, strata, workers)
    values = rows["value"].to_numpy()
    at = [None if end is None else float((values == end).mean()) for end in (measure.low, measure.high)]
    return Length(
        measure.name,
        variable.modality,
        variable.title,
        variable.unit,
        len(y),
        int(workers.max()) + 1,
        at[0],
        at[1],
        _curve(x, y, strata, workers, variable.log, 2.0),
        None
        if own is None
        else effect_of(_FAMILY, "a doubling of the length", variable, own.slope, own.n, own.workers),
        # At a given length of the answer, that of dwell per character is the same as that of dwell.
        None if measure.name == "dwell_per_char" else _rival(outcome),
        _between(x, y, workers, variable),
    )


def _rival(outcome: Outcome) -> Effect | None:
    """The change for a doubling of the rival's length, at the same own length."""
    pairs = outcome.rows.filter(pl.col("rival_length") > 0)
    if pairs.is_empty():
        return None
    workers = codes(pairs, "worker_id")
    own, rival = (np.log2(pairs[name].to_numpy()) for name in ("length", "rival_length"))
    y = pairs["y"].to_numpy()
    told = varies(rival, workers)
    count = len(np.unique(workers[told]))
    if count < 2 or not varies(y, workers)[told].any():
        return None
    own, rival, y = (centered(one[told], workers[told]) for one in (own, rival, y))
    parts = np.column_stack([own * own, own * rival, rival * rival, own * y, rival * y])
    found = jackknife_sums(_second_slope, parts, workers[told])
    if not np.isfinite(found.mean):
        return None
    return effect_of(_FAMILY, "a doubling of the rival's length", outcome.variable, found, int(told.sum()), count)


def _second_slope(sums: np.ndarray) -> np.ndarray:
    """(..., 5) sums of squares and products -> (...) the slope on the second of two variables, NaN where undefined."""
    aa, ab, bb, ay, by = np.moveaxis(sums, -1, 0)
    free = aa * bb - ab**2
    return np.asarray((aa * by - ab * ay) / np.where(free > 1e-9 * aa * bb, free, np.nan))


def _between(x: np.ndarray, y: np.ndarray, workers: np.ndarray, variable: Variable) -> Estimate | None:
    """The slope of the workers' means, each once."""
    sizes = np.bincount(workers)
    x, y = np.bincount(workers, x) / sizes, np.bincount(workers, y) / sizes
    if len(sizes) < _LEAST_WORKERS or np.ptp(x) == 0:
        return None
    # About the means of all, as the sums without a worker are small differences otherwise.
    x, y = x - x.mean(), y - y.mean()
    parts = np.column_stack([np.ones(len(x)), x, y, x * x, x * y])

    def slope(sums: np.ndarray) -> np.ndarray:
        n, sx, sy, sxx, sxy = np.moveaxis(sums, -1, 0)
        return np.asarray((sxy - sx * sy / n) / (sxx - sx * sx / n))

    found = jackknife_sums(slope, parts, np.arange(len(x))).estimate
    if not variable.log:
        return found
    with np.errstate(over="ignore"):
        mean, low, high = (float(100 * np.expm1(found[end])) for end in ("mean", "low", "high"))
    return {"mean": mean, "low": low, "high": high}


def _time_share(outcome: Outcome, of_left: pl.DataFrame) -> TimeShare | None:
    rows = outcome.rows.join(
        of_left.select("question_id", left="length", right="rival_length"), on="question_id", maintain_order="left"
    )
    if rows.is_empty():
        return None
    x, y = (rows["left"] / (rows["left"] + rows["right"])).to_numpy(), rows["y"].to_numpy()
    workers = codes(rows, "worker_id")
    found = slope_within(x, y, workers, workers)
    if found is None:
        return None
    beyond = Jackknife(found.slope.mean - 1, found.slope.moves, found.slope.df)
    variable = Variable("left_time_share", "dwell on the left", "share/share", outcome.variable.modality)
    slope, less = (
        effect_of(_FAMILY, what, variable, one, found.n, found.workers)
        for what, one in (
            ("share of the length on the left", found.slope),
            ("share of the length on the left, slope less 1", beyond),
        )
    )
    less = replace(less, caveat="time that is no reading makes it negative")
    return TimeShare(variable.modality, slope, less, _curve(x, y, workers, workers, False, None))


def _curve(
    x: np.ndarray, y: np.ndarray, strata: np.ndarray, workers: np.ndarray, log: bool, base: float | None
) -> Curve | None:
    """A natural cubic spline with an intercept for each stratum, at the readings' mean intercept.

    The shape comes from within strata; the height, and most of the band's width, from how much workers differ.

    Args:
        log: y is a natural logarithm.
        base: x is a logarithm to this base; None: it is none.
    """
    knots = np.percentile(x, _KNOTS)
    count = int(workers.max()) + 1
    if count < _LEAST_WORKERS or not np.all(np.diff(knots) > 0):
        return None
    grid = np.linspace(np.percentile(x, ENDS[0]), np.percentile(x, ENDS[1]), POINTS)
    design, at = natural_spline(x, knots), natural_spline(grid, knots)
    inside = np.column_stack([centered(one, strata) for one in design.T])
    residual = centered(y, strata)
    # Sums by worker: of squares, of products with y, of the design, of y, of readings.
    squares = _by_worker(np.einsum("ni,nj->nij", inside, inside).reshape(len(x), -1), workers)
    products, places = _by_worker(inside * residual[:, None], workers), _by_worker(design, workers)
    totals, sizes = np.bincount(workers, y), np.bincount(workers).astype(float)
    k = design.shape[1]

    def without(less: np.ndarray) -> np.ndarray:
        """(sets, POINTS) the curve from the workers that count: (sets, workers) of 0 and 1."""
        n = less @ sizes
        cross = (less @ squares).reshape(-1, k, k)
        slopes = np.einsum("sij,sj->si", np.linalg.pinv(cross, hermitian=True), less @ products)
        height = (less @ totals - np.einsum("si,si->s", slopes, less @ places)) / n
        return np.asarray(height[:, None] + slopes @ at.T)

    everyone = np.ones((1, count))
    mean = without(everyone)[0]
    moved = without(everyone - np.eye(count))
    inverse = np.linalg.pinv(squares.sum(axis=0).reshape(k, k), hermitian=True)
    slope = inverse @ products.sum(axis=0)
    fit = (inside * (residual - inside @ slope)[:, None]) @ inverse
    height = (y - design @ slope)[:, None] / len(x)
    linear = fit @ (at - design.mean(axis=0)).T + height
    ends = [jackknife(one, moved[:, j], linear[:, j], workers).interval() for j, one in enumerate(mean)]
    bands = np.array([mean, [one["low"] for one in ends], [one["high"] for one in ends]])
    with np.errstate(over="ignore"):
        values = np.exp(bands) if log else bands
    places_ = grid if base is None else base**grid
    return Curve(places_.tolist(), *(one.tolist() for one in values))


def _by_worker(values: np.ndarray, workers: np.ndarray) -> np.ndarray:
    """(workers, k) sums of (n, k) values."""
    return np.column_stack([np.bincount(workers, one) for one in values.T])


def natural_spline(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """(n, knots - 1) basis without intercept of cubic splines that are linear beyond the knots.

    Hastie, Tibshirani & Friedman 2009, equation 5.4, on x scaled to 0-1 between the outer knots.
    """
    low, high = knots[0], knots[-1]
    x, inner = (x - low) / (high - low), (knots - low) / (high - low)
    cubes = [np.clip(x - knot, 0, None) ** 3 for knot in inner]
    ratios = [(cube - cubes[-1]) / (1 - knot) for cube, knot in zip(cubes[:-1], inner[:-1], strict=True)]
    return np.column_stack([x, *(ratio - ratios[-1] for ratio in ratios[:-1])])
