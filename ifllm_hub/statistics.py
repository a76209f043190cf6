"""Intervals of 95 %: of a share of independent cases, and of estimates from workers whose pairs are alike.

Pairs of one worker are not independent, workers are few, and some have many more pairs than others: 46 workers of the
study count like 14 of equal size. A percentile bootstrap over workers then covers 92 % instead of 95. `Jackknife`
leaves out one worker at a time, and takes Student's t with degrees of freedom that follow from the sizes of the workers
and from how much they differ (docs/results/interval_coverage.md has what it covers).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

_DRAWS = 50_000
# Of a pair, by which sums are moved to see what it adds to an estimate.
_STEP = 1e-3
# Of the squared coefficients, in log likelihood: for the few pairs that a line divides without error.
_PENALTY = 0.1


class Interval(TypedDict):
    """The ends of a 95 % interval."""

    low: float
    high: float


class Estimate(Interval):
    """A mean with its 95 % interval."""

    mean: float


class Adjusted(Interval):
    """What `simultaneous` gives: the interval and the two-sided p value of a difference, adjusted for the others."""

    p: float


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `n` independent cases, for error bars (Wilson 1927)."""
    z = 1.96
    center = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return center - half, center + half


@dataclass(frozen=True)
class Jackknife:
    """An estimate, and how it moves when one worker is left out.

    Attributes:
        mean: the estimate on all workers.
        moves: (workers,) sqrt((G - 1) / G) times the estimate without a worker less `mean`; none if it rests on one
            worker. Their squares add up to the variance of `mean` (CV3 of MacKinnon, Nielsen & Webb 2023).
        df: degrees of freedom, see `degrees_of_freedom`.
    """

    mean: float
    moves: np.ndarray
    df: float

    @property
    def standard_error(self) -> float:
        return float(np.sqrt((self.moves**2).sum()))

    def interval(self, level: float = 0.95) -> Interval:
        """`low` and `high` by Student's t; NaN where it rests on a single worker, who says nothing of others."""
        from scipy import stats

        if len(self.moves) < 2:
            return {"low": math.nan, "high": math.nan}
        half = float(stats.t.isf((1 - level) / 2, self.df)) * self.standard_error
        return {"low": self.mean - half, "high": self.mean + half}

    @property
    def estimate(self) -> Estimate:
        """The mean with its interval."""
        return {"mean": self.mean, **self.interval()}

    @property
    def p(self) -> float:
        """Two-sided p value of the estimate being 0; 1 where nothing moves it from there."""
        from scipy import stats

        if self.mean == 0 or len(self.moves) < 2:
            return 1.0
        with np.errstate(divide="ignore"):
            return float(2 * stats.t.sf(abs(self.mean) / np.float64(self.standard_error), self.df))


def jackknife(mean: float, without: np.ndarray, linear: np.ndarray, workers: np.ndarray) -> Jackknife:
    """Of any estimate.

    Args:
        mean: the estimate on all workers.
        without: (workers,) the estimate without each of them; NaN (no AUC without that worker) moves nothing, but if
            fewer than two are defined, the estimate rests on one worker and has no interval.
        linear: (n,) what each pair adds to the estimate, to first order; only how alike these are within a worker
            matters.
        workers: (n,) whose pair it is.
    """
    defined = np.isfinite(without)
    count = int(defined.sum())
    if count < 2:
        return Jackknife(float(mean), np.zeros(0), math.nan)
    moves = math.sqrt((count - 1) / count) * np.where(defined, without - mean, 0.0)
    return Jackknife(float(mean), moves, degrees_of_freedom(linear, workers))


def jackknife_mean(values: np.ndarray, workers: np.ndarray) -> Jackknife:
    """Of a mean over pairs.

    Args:
        values: (n,) one a pair.
        workers: (n,) whose pair it is.
    """
    return jackknife(values.mean(), means_without(values, workers), values, workers)


def means_without(values: np.ndarray, workers: np.ndarray) -> np.ndarray:
    """(workers,) the mean of (n,) values without each worker; NaN where nothing is left."""
    codes = np.unique(workers, return_inverse=True)[1]
    totals, sizes = np.bincount(codes, values), np.bincount(codes)
    with np.errstate(invalid="ignore"):
        return np.asarray((totals.sum() - totals) / (len(values) - sizes))


def jackknife_sums(estimate: Callable[[np.ndarray], Any], parts: np.ndarray, workers: np.ndarray) -> Jackknife:
    """Of a smooth function of sums over pairs.

    Args:
        estimate: (..., k) sums -> (...), of any number of pairs.
        parts: (n, k) what each pair adds to each sum.
        workers: (n,) whose pair it is.
    """
    codes = np.unique(workers, return_inverse=True)[1]
    theirs = np.array([np.bincount(codes, part) for part in parts.T]).T
    total = parts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not defined without a worker moves nothing
        return jackknife(
            float(estimate(total)),
            np.asarray(estimate(total - theirs)),
            estimate(total + _STEP * parts) - estimate(total - _STEP * parts),
            codes,
        )


def mean_interval(values: np.ndarray, workers: np.ndarray) -> Interval:
    """The interval (`low`, `high`) of `jackknife_mean`."""
    return jackknife_mean(values, workers).interval()


def degrees_of_freedom(values: np.ndarray, workers: np.ndarray) -> float:
    """Satterthwaite's degrees of freedom of the jackknife variance of a mean over pairs.

    As Imbens & Kolesár (2016) take those of Bell & McCaffrey (2002): the variance is a quadratic form whose first two
    moments are taken under a random effect of each worker, with the components of variance that one-way ANOVA finds.
    With G workers of equal size this is nearly G - 1; the less equal the sizes, or the more the workers differ, the
    fewer. For G workers the matrix of the form is diagonal plus rank two, so nothing of size G x G is made.

    Args:
        values: (n,) one a pair.
        workers: (n,) whose pair it is.
    """
    sizes = np.unique(workers, return_counts=True)[1]
    if len(sizes) < 2:
        return math.nan
    within, between = components(values, workers)
    return residual_form(left_out(sizes), sizes, within, max(between, 0.0))[1]


def components(values: np.ndarray, workers: np.ndarray) -> tuple[float, float]:
    """Variance within workers and that between them, by one-way ANOVA; the latter may come out below 0.

    Args:
        values: (n,) one a pair.
        workers: (n,) whose pair it is, of two at least.
    """
    codes = np.unique(workers, return_inverse=True)[1]
    sizes, totals = np.bincount(codes).astype(float), np.bincount(codes, values)
    means = totals / sizes
    within = ((values - means[codes]) ** 2).sum() / max(len(values) - len(sizes), 1)
    among = (sizes * (means - values.mean()) ** 2).sum() / (len(sizes) - 1)
    return float(within), float((among - within) / anova_size(sizes))


def anova_size(sizes: np.ndarray) -> Any:
    """How many times the variance between workers is in the mean square among them: their size, if they are equal.

    Args:
        sizes: (..., workers) pairs of each.
    """
    n = sizes.sum(axis=-1)
    return (n - (sizes**2).sum(axis=-1) / n) / (sizes.shape[-1] - 1)


def left_out(sizes: np.ndarray) -> np.ndarray:
    """Same shape: the weights with which `residual_form` is the variance by jackknife, but for a constant."""
    n = sizes.sum(axis=-1, keepdims=True)
    return (n / (n - sizes)) ** 2


def residual_form(
    weights: np.ndarray, sizes: np.ndarray, within: float, between: float | np.ndarray
) -> tuple[Any, Any]:
    """Mean and Satterthwaite's degrees of freedom of sum_g weights_g u_g^2 over workers with a random effect each.

    u_g is what the values of worker g add up to, less its share of the total.

    Args:
        weights: (..., workers).
        sizes: (..., workers) pairs of each.
        within: variance of a pair within a worker.
        between: variance of the workers, (..., 1) or the same for all.

    Returns:
        Both (...); with no variance at all, the degrees of freedom are one fewer than the workers.
    """
    sizes = sizes.astype(float)
    n = sizes.sum(axis=-1, keepdims=True)
    variances = sizes * within + sizes**2 * between
    # Residual totals u = (I - sizes 1'/n) totals have the covariance diag(variances) + sizes q' + q sizes'.
    q = -variances / n + sizes * variances.sum(axis=-1, keepdims=True) / (2 * n**2)
    diagonal = variances + 2 * sizes * q
    mean = (weights * diagonal).sum(axis=-1)
    everywhere = (weights * sizes**2).sum(axis=-1) * (weights * q**2).sum(axis=-1)
    everywhere = 2 * everywhere + 2 * (weights * sizes * q).sum(axis=-1) ** 2
    of_square = everywhere + (weights**2 * (diagonal**2 - (2 * sizes * q) ** 2)).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return mean, np.where(of_square > 0, mean**2 / of_square, sizes.shape[-1] - 1.0)[()]


def effective_workers(workers: np.ndarray) -> float:
    """(sum n)^2 / sum n^2: as many workers of equal size tell as much of a mean where workers differ."""
    sizes = np.unique(workers, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def simultaneous(estimates: Sequence[Jackknife]) -> list[Adjusted]:
    """Intervals that hold all at once in 95 of 100 studies, and p values adjusted for looking at all of them.

    Single-step minP (Westfall & Young 1993; max-T where all have the same degrees of freedom), with normal draws that
    have the correlations of the jackknife (Hothorn, Bretz & Westfall 2008): differences that go up and down with the
    same workers cost less than independent ones. An estimate that no worker moves keeps its own.

    Args:
        estimates: differences on the same workers.
    """
    from scipy import stats

    moving = [one.moves / (one.standard_error or 1.0) for one in estimates if len(one.moves) > 1]
    if not moving:
        return [{**one.interval(), "p": one.p} for one in estimates]
    moves = np.array(moving)
    normal = np.random.default_rng(0).standard_normal((_DRAWS, moves.shape[1])) @ moves.T
    smallest = np.sort(2 * stats.norm.sf(np.abs(normal).max(axis=1)))
    level = float(np.quantile(smallest, 0.05))
    adjusted = np.searchsorted(smallest, [one.p for one in estimates], side="right") / _DRAWS
    return [{**one.interval(1 - level), "p": max(float(p), one.p)} for one, p in zip(estimates, adjusted, strict=True)]


def detectable(estimate: Jackknife, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided test at 5 % finds with this power, at this standard error."""
    from scipy import stats

    return float(stats.t.isf(0.025, estimate.df) + stats.t.isf(1 - power, estimate.df)) * estimate.standard_error


def holm(p: Sequence[float]) -> list[float]:
    """p values adjusted for all of them, in the same order (Holm 1979).

    It bounds the chance of even one false claim, however the tests depend on each other.
    """
    values = np.asarray(p, dtype=float)
    order = np.argsort(values, kind="stable")
    steps = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    adjusted = np.empty_like(values)
    adjusted[order] = steps
    return [float(one) for one in adjusted]


def expit(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x), for |x| up to 30."""
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -30, 30))))


def logistic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression without an intercept, by Newton's method, with a small penalty on squared coefficients.

    Args:
        x: (n, k).
        y: (n,) 0 or 1.

    Returns:
        (k,) coefficients, and (n, k) what each row adds to them, to first order.
    """
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        slope = x.T @ (y - expit(x @ beta)) - _PENALTY * beta
        step = np.linalg.solve(_information(x, beta), slope)
        beta = beta + step
        if np.abs(step).max() < 1e-9:
            break
    return beta, (x * (y - expit(x @ beta))[:, None]) @ np.linalg.inv(_information(x, beta))


def _information(x: np.ndarray, beta: np.ndarray) -> np.ndarray:
    chance = expit(x @ beta)
    return np.asarray((x * (chance * (1 - chance))[:, None]).T @ x + _PENALTY * np.eye(len(beta)))
