"""Randomization tests of a coin that was tossed for every question: the coin is dealt anew within each stratum."""

from collections.abc import Iterator
from itertools import chain

import numpy as np

# Of which the smallest p value is 1 in 20,000, so that one of some 400 comparisons can survive Holm.
DRAWS = 19_999
_CHUNK = 1_000
# Draws that differ from the observed statistic by less than rounding are ties.
_TIE = 1 - 1e-9


def tossed(n: int, draws: int = DRAWS) -> Iterator[np.ndarray]:
    """(at most 1,000, n) float64 of 0 and 1, chunk by chunk: fair and independent tosses, from a fixed seed."""
    rng = np.random.default_rng(0)
    for start in range(0, draws, _CHUNK):
        yield rng.integers(0, 2, (min(_CHUNK, draws - start), n), dtype=np.int8).astype(float)


def dealt(coin: np.ndarray, strata: np.ndarray, draws: int = DRAWS) -> Iterator[np.ndarray]:
    """(at most 1,000, n) float64, chunk by chunk: the coin permuted within each stratum, from a fixed seed.

    Args:
        coin: (n,) 0 or 1.
        strata: (n,) int64, ascending.
    """
    rng = np.random.default_rng(0)
    ends = np.append(np.flatnonzero(np.diff(strata)) + 1, len(strata))
    side = coin.astype(np.uint32)
    for start in range(0, draws, _CHUNK):
        # Random numbers whose last bit is the coin: sorting them puts the coin in random order.
        keys = rng.integers(0, 2**31, (min(_CHUNK, draws - start), len(coin)), dtype=np.uint32) << 1 | side
        for low, high in zip(np.append(0, ends[:-1]), ends, strict=True):
            keys[:, low:high].sort(axis=1)
        yield (keys & 1).astype(float)


def p_value(statistics: np.ndarray) -> np.ndarray:
    """(k,) share of the (1 + draws, k) statistics, of which the first was observed, that are at least as large."""
    return np.asarray((statistics >= _TIE * statistics[0]).mean(axis=0))


def randomization_test(coin: np.ndarray, outcomes: np.ndarray, strata: np.ndarray, draws: int = DRAWS) -> np.ndarray:
    """(k,) two-sided p values of the sharp null hypothesis that the coin changed no question's outcome.

    The statistic is the covariance of coin and outcome within strata over its heteroscedasticity-robust standard error
    under that hypothesis: studentized, the test is valid in large samples also for the mean, where the coin only
    changes the spread of an outcome (Chung & Romano 2013). The square of a centered coin is linear in the coin, so that
    all draws of all outcomes are two matrix products.

    Args:
        coin: (n,) 0 or 1, one a question.
        outcomes: (n, k) float64; NaN where not defined.
        strata: (n,) int64.
    """
    order = np.argsort(strata, kind="stable")
    coin, outcomes, strata = coin[order].astype(float), outcomes[order], strata[order]
    known = np.isfinite(outcomes)
    sizes = np.bincount(strata)
    y = np.where(known, outcomes, 0.0)
    means = np.array([np.bincount(strata, one) for one in y.T]) / np.array(
        [np.maximum(np.bincount(strata, one), 1) for one in known.T]
    )
    y = np.where(known, y - means.T[strata], 0.0)
    spread = np.sqrt((y**2).mean(axis=0))
    y /= np.where(spread > 0, spread, 1.0)
    share = (np.bincount(strata, coin) / np.maximum(sizes, 1))[strata][:, None]
    # The variance is the sum of (coin - share)^2 y^2, where (coin - share)^2 = share^2 + coin (1 - 2 share).
    fixed, slope = (share**2 * y**2).sum(axis=0), (1 - 2 * share) * y**2
    found = []
    for drawn in chain([coin[None]], dealt(coin, strata, draws)):
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(np.abs(drawn @ y) / np.sqrt(fixed + drawn @ slope))
    return p_value(np.nan_to_num(np.concatenate(found), nan=0.0, posinf=np.inf))
