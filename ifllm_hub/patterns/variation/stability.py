"""How many groups there are, if any: the number that workers drawn anew give again, more surely than a continuum does.

For 2 to 8 groups the index is the mean adjusted Rand index (Hubert & Arabie 1985) between k-means of all workers and of
workers drawn anew (bootstrap, Hennig 2007). A high index alone proves nothing: two halves of one long cloud are found
again and again, too. So it is held against data without groups, a parametric bootstrap as Hennig & Lin (2015) propose,
which keeps how alike the readings of a worker are, since fewer independent readings make any groups less stable:

- normal with the covariances between and within workers (SigClust, Liu et al. 2008, has one for independent cases);
- uniform over the box of the components (the gap statistic, Tibshirani, Walther & Hastie 2001), with each component as
  alike within a worker.

The statistic is the largest index over the numbers of groups, each in standard deviations from its mean over all data
sets, the real one among them, so that choosing the number is paid for and the Monte Carlo test (Davison & Hinkley 1997,
section 4.2) is exact where the reference is. Groups are clear if p <= `ALPHA` against both kinds, and if some number of
groups has an index of `CLEAR` or more, above that of every data set without groups. Of several such numbers the most
stable is taken and, of those as stable but for `_TIE`, the largest: where four groups are found again, two are, too.

As the readings are a sample and the references are few, all of this is done up to `_REPEATS` times, with other samples
and references, and groups are clear only if each time finds the same number.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

COUNTS = tuple(range(2, 9))
# Good recovery in Steinley (2004).
CLEAR = 0.8
ALPHA = 0.05
# Data sets of each kind: the fewest with which p can be 0.05.
_REFERENCES = 19
_REPEATS = 3
# Indices this near each other are alike.
_TIE = 0.02
_SAMPLE = 300
_DRAWS = 8
# As many starts of few steps, of which the best goes on (short runs, Biernacki, Celeux & Govaert 2003).
_STARTS, _SHORT, _LONG = 4, 2, 10


@dataclass(frozen=True)
class Stability:
    """How alike the groups are that workers drawn anew give.

    Attributes:
        k: number of groups.
        index: mean adjusted Rand index over the draws.
        normal, uniform: the same in data without groups; mean over several such data sets.
        normal_deviation, uniform_deviation: standard deviation between those data sets.
        clear: whether these are the clear groups.
    """

    k: int
    index: float
    normal: float
    normal_deviation: float
    uniform: float
    uniform_deviation: float
    clear: bool


def stabilities(scores: np.ndarray, workers: np.ndarray) -> tuple[list[Stability], float]:
    """How stable 2 to 8 groups are, and the p value of there being none.

    Args:
        scores: (n, components) on the principal components.
        workers: (n,) whose reading it is.

    Returns:
        One for each of `COUNTS`, of the first sample, at most one of them clear; and the largest of the p values of the
        samples that were drawn and of both references. No more are drawn once one finds no groups, or other ones.
    """
    first, p, found = _found(scores, workers, 0)
    for seed in range(1, _REPEATS):
        if found is None:
            break
        _, other, again = _found(scores, workers, seed)
        p, found = max(p, other), found if again == found else None
    return [replace(one, clear=one.k == found) for one in first], p


def _found(scores: np.ndarray, workers: np.ndarray, seed: int) -> tuple[list[Stability], float, int | None]:
    """Of one sample: the stabilities, the p value, and the number of groups if they are clear."""
    rng = np.random.default_rng(seed)
    rows = balanced(workers, _SAMPLE, rng)
    scores, whose = scores[rows], np.unique(workers[rows], return_inverse=True)[1]
    seen = _indices(scores, whose, rng)
    kinds = [
        np.array([_indices(draw(), whose, rng) for _ in range(_REFERENCES)]) for draw in continua(scores, whose, rng)
    ]
    p = max(_p_value(seen, kind) for kind in kinds)
    above = np.all([seen > kind.max(axis=0) for kind in kinds], axis=0) & (seen >= CLEAR)
    stable = np.flatnonzero(above & (seen >= np.max(seen, where=above, initial=0) - _TIE))
    normal, uniform = ([(float(one.mean()), float(one.std(ddof=1))) for one in kind.T] for kind in kinds)
    listed = [Stability(k, float(seen[i]), *normal[i], *uniform[i], False) for i, k in enumerate(COUNTS)]
    return listed, p, COUNTS[stable[-1]] if p <= ALPHA and stable.size else None


def balanced(workers: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of at most so many readings, sorted: a random one of each worker, then a second of each, and so on."""
    order = rng.permutation(len(workers))
    together = order[np.argsort(workers[order], kind="stable")]
    _, first, sizes = np.unique(workers[together], return_index=True, return_counts=True)
    rank = np.arange(len(workers)) - np.repeat(first, sizes)
    return np.sort(together[np.lexsort((rng.permutation(len(workers)), rank))[:most]])


def covariances(scores: np.ndarray, whose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Between and within workers, by the analysis of variance (Searle, Casella & McCulloch 1992, chapter 11).

    Args:
        scores: (n, components).
        whose: (n,) number of the worker, from 0.

    Returns:
        Two (components, components) matrices without negative eigenvalues.
    """
    sizes = np.bincount(whose)
    means = np.array([np.bincount(whose, one) / sizes for one in scores.T]).T
    inner, outer = scores - means[whose], means - scores.mean(axis=0)
    within = inner.T @ inner / max(len(scores) - len(sizes), 1)
    size = (len(scores) - (sizes**2).sum() / len(scores)) / (len(sizes) - 1)
    values, vectors = np.linalg.eigh(((outer.T * sizes) @ outer / (len(sizes) - 1) - within) / size)
    return (vectors * np.maximum(values, 0)) @ vectors.T, within


def continua(scores: np.ndarray, whose: np.ndarray, rng: np.random.Generator) -> list[Callable[[], np.ndarray]]:
    """Draw data without groups like these: normal, and uniform; arguments as those of `covariances`."""
    from scipy.special import ndtr

    between, within = covariances(scores, whose)
    roots = [
        np.linalg.cholesky(one + 1e-9 * np.trace(between + within) * np.eye(len(one))).T for one in (between, within)
    ]
    shares = np.diag(between) / np.diag(between + within)
    low, high = scores.min(axis=0), scores.max(axis=0)

    def of_workers_and_readings(by_worker: np.ndarray, by_reading: np.ndarray) -> np.ndarray:
        habits = rng.standard_normal((whose.max() + 1, len(low))) @ by_worker
        return np.asarray(habits[whose] + rng.standard_normal(scores.shape) @ by_reading)

    return [
        lambda: of_workers_and_readings(roots[0], roots[1]),
        lambda: (
            low + (high - low) * ndtr(of_workers_and_readings(np.diag(np.sqrt(shares)), np.diag(np.sqrt(1 - shares))))
        ),
    ]


def k_means(scores: np.ndarray, weights: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """The groups of the same points under several weights.

    All starts under all weights move together: a fit takes less than a ms here, with scikit-learn 15, and
    scipy's has no weights.

    Args:
        scores: (n, components).
        weights: (fits, n).

    Returns:
        (fits, n) group of each point, from 0 to k - 1, also of those of weight 0.
    """
    tried = np.repeat(weights, _STARTS, axis=0)
    centers, _, losses = _lloyd(scores, tried, _seeds(scores, tried, k, rng), _SHORT)
    best = losses.reshape(-1, _STARTS).argmin(axis=1) + _STARTS * np.arange(len(weights))
    return _lloyd(scores, weights, centers[best], _LONG)[1]


def rand_indices(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(m,) adjusted Rand index of (n,) groups with each of (m, n)."""
    k = max(codes.max(), others.max()) + 1
    cells = k * k * np.arange(len(others))[:, None] + k * codes + others
    both = np.bincount(cells.ravel(), minlength=len(others) * k * k).reshape(-1, k, k)
    pairs, one, other = (
        (count * (count - 1) / 2).sum(axis=1) for count in (both.reshape(-1, k * k), both.sum(axis=2), both.sum(axis=1))
    )
    chance = one * other / (len(codes) * (len(codes) - 1) / 2)
    possible = (one + other) / 2 - chance
    return np.where(possible > 0, (pairs - chance) / np.where(possible > 0, possible, 1), 1.0)


def _indices(scores: np.ndarray, whose: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(counts,) mean adjusted Rand index of the groups of all workers with those of workers drawn anew."""
    workers = whose.max() + 1
    times = np.array([np.bincount(rng.integers(workers, size=workers), minlength=workers) for _ in range(_DRAWS)])
    weights = np.concatenate([np.ones((1, len(scores))), times[:, whose]])
    codes = (k_means(scores, weights, k, rng) for k in COUNTS)
    return np.array([rand_indices(of[0], of[1:]).mean() for of in codes])


def _p_value(seen: np.ndarray, reference: np.ndarray) -> float:
    """Of (counts,) indices among those of (data sets, counts) without groups."""
    every = np.vstack([seen, reference])
    deviations = every.std(axis=0)
    largest = ((every - every.mean(axis=0)) / np.where(deviations > 0, deviations, 1)).max(axis=1)
    return float((largest >= largest[0]).mean())


def _seeds(scores: np.ndarray, weights: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """(fits, k, components) first centers, far from each other (k-means++, Arthur & Vassilvitskii 2007)."""
    centers = np.empty((len(weights), k, scores.shape[1]))
    squares = (scores**2).sum(axis=1)
    distances, mass = np.full(weights.shape, np.inf), weights
    for place in range(k):
        sums = mass.cumsum(axis=1)
        rows = np.minimum((sums <= rng.random((len(sums), 1)) * sums[:, -1:]).sum(axis=1), len(scores) - 1)
        centers[:, place] = scores[rows]
        others = squares - 2 * centers[:, place] @ scores.T + squares[rows, None]
        distances = np.minimum(distances, np.maximum(others, 0))
        mass = weights * distances
    return centers


def _lloyd(
    scores: np.ndarray, weights: np.ndarray, centers: np.ndarray, steps: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At most so many of Lloyd's steps -> centers, groups (fits, n), and (fits,) weighted loss, less a constant."""
    fits, k, components = centers.shape
    first = k * np.arange(fits)[:, None]
    moments = [weights.ravel(), *((weights * one).ravel() for one in scores.T)]
    codes, losses = _nearest(scores, centers)
    for _ in range(steps):
        where = (codes + first).ravel()
        sums = np.array([np.bincount(where, one, fits * k) for one in moments]).T.reshape(fits, k, components + 1)
        sizes = sums[:, :, :1]
        # A group that runs empty stays where it is.
        centers = np.where(sizes > 0, sums[:, :, 1:] / np.maximum(sizes, 1), centers)
        before, (codes, losses) = codes, _nearest(scores, centers)
        if np.array_equal(codes, before):
            break
    return centers, codes, (weights * losses).sum(axis=1)


def _nearest(scores: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(fits, n) which of (fits, k, components) centers is nearest, and its squared distance less that from 0."""
    # |x - c|^2 - |x|^2 as one product; single precision halves the time.
    points = np.column_stack([scores, np.ones(len(scores))]).astype(np.float32).T
    sides = np.concatenate([-2 * centers, (centers**2).sum(axis=2, keepdims=True)], axis=2).astype(np.float32)
    least = sides[:, 0] @ points
    codes = np.zeros(least.shape, np.int64)
    for place in range(1, centers.shape[1]):
        other = sides[:, place] @ points
        np.putmask(codes, other < least, place)
        np.minimum(least, other, out=least)
    return codes, least
