"""95 % intervals: of a share of independent cases, and of a mean over pairs that are correlated within a worker."""

import math
from functools import cache
from typing import TypedDict

import numpy as np

_BOOTSTRAPS = 1_000


class Interval(TypedDict):
    """The ends of a 95 % interval."""

    low: float
    high: float


class Estimate(Interval):
    """A mean with its 95 % interval."""

    mean: float


def wilson(hits: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of `n` independent cases, for error bars (Wilson 1927)."""
    z = 1.96
    center = (hits + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(hits * (n - hits) / n + z * z / 4)
    return center - half, center + half


def mean_interval(values: np.ndarray, workers: np.ndarray) -> Interval:
    """The interval (`low`, `high`) of a mean, from a bootstrap over workers.

    Args:
        values: (n,) one per pair.
        workers: (n,) the worker of each pair.
    """
    codes = np.unique(workers, return_inverse=True)[1]
    totals, counts = np.bincount(codes, values), np.bincount(codes)
    drawn = worker_draws(len(counts))
    return interval(drawn @ totals / (drawn @ counts))


@cache
def worker_draws(workers: int) -> np.ndarray:
    """(1,000, workers) how often each bootstrap draws each worker; fixed for a given number of workers."""
    generator = np.random.default_rng(0)
    drawn = [generator.integers(workers, size=workers) for _ in range(_BOOTSTRAPS)]
    return np.array([np.bincount(draw, minlength=workers) for draw in drawn], dtype=float)


def interval(draws: np.ndarray) -> Interval:
    """`low` and `high`: the 2.5th and 97.5th percentile of draws; NaN draws are left out."""
    if np.isnan(draws).all():
        return {"low": float("nan"), "high": float("nan")}
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}
