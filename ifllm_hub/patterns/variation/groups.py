"""Whether readers' paths through an answer fall into groups, or only differ by degrees.

A path is the position in the answer at equal steps of the time spent on it. k-means groups paths by the mean squared
distance between them: no shape of a group is assumed, and the path nearest to its mean stands for it. `stability` says
how many groups are clear, if any.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ifllm_hub.patterns.readings import Readings
from ifllm_hub.patterns.variation.stability import Stability, k_means, stabilities
from ifllm_hub.statistics import Estimate, jackknife

# Dwell on an answer from which its path is described, ms.
LEAST_MS = 5_000
# Steps of time.
STEPS = 20
# With fewer, nothing is grouped.
LEAST_READINGS, LEAST_WORKERS = 50, 5
_COMPONENTS = 4
# Parts along the first principal component, where there are no clear groups.
_PARTS = 4
_MEDOIDS = 3


@dataclass(frozen=True)
class Part:
    """Readings with like paths.

    Attributes:
        n, workers: readings, and whose.
        low, median, high: (STEPS,) quartiles of the position, as share of the answer.
        medoids: (question_id, side) of the readings nearest to the mean path, of different workers.
        by_worker: worker_id and the share of the worker's readings that are in this part, sorted.
    """

    n: int
    workers: int
    low: list[float]
    median: list[float]
    high: list[float]
    medoids: list[tuple[int, str]]
    by_worker: list[tuple[str, float]]


@dataclass(frozen=True)
class Groups:
    """Paths of one modality.

    Attributes:
        modality: "mouse" or "gaze".
        n, workers: readings of `LEAST_MS` or more, and whose.
        stability: for each number of groups.
        p: of there being no groups, the larger of the p values against normal and uniform data.
        clear: how many clear groups there are; None: none, then `parts` are quarters of the readings along the first
            principal component: a continuum cut for display.
        explained: share of the variance of the paths along each of the first principal components.
        parts: by their mean position.
        trait: how much more often two readings of a worker are in the same part than two of different workers, as a
            share of how often they could be (0: a part says nothing of the worker; 1: all readings of a worker are in
            one), with its interval; each worker of two readings or more counts once.
    """

    modality: str
    n: int
    workers: int
    stability: list[Stability]
    p: float
    clear: int | None
    explained: list[float]
    parts: list[Part]
    trait: Estimate


def paths(readings: Readings, modality: str) -> tuple[pl.DataFrame, np.ndarray]:
    """The path of each reading of `LEAST_MS` or more.

    Returns:
        `question_id`, `side`, `worker_id`, sorted, and (n, STEPS) the position as share of the answer in the middle of
        each step.
    """
    ticks = readings.ticks[modality].filter((pl.col("read") >= LEAST_MS) & (pl.col("dt") > 0) & (pl.col("length") > 0))
    rows = (
        ticks.select(
            "question_id",
            "side",
            place=pl.col("char") / pl.col("length"),
            moment=pl.col("elapsed") / pl.col("read"),
        )
        .group_by("question_id", "side", maintain_order=True)
        .agg("place", "moment")
        .join(readings.questions.select("question_id", "worker_id"), on="question_id")
        .sort("question_id", "side")
    )
    middles = (np.arange(STEPS) + 0.5) / STEPS
    places = [
        place.to_numpy()[np.searchsorted(moment.to_numpy(), middles, side="right") - 1]
        for place, moment in zip(rows["place"], rows["moment"], strict=True)
    ]
    return rows.select("question_id", "side", "worker_id"), np.array(places).reshape(-1, STEPS)


def groups(readings: Readings, modality: str) -> Groups | None:
    """The groups of one modality; None with fewer than `LEAST_READINGS` or `LEAST_WORKERS`."""
    return grouped(*paths(readings, modality), modality)


def grouped(rows: pl.DataFrame, places: np.ndarray, modality: str) -> Groups | None:
    """Of the paths that `paths` gives."""
    workers = rows["worker_id"].to_numpy()
    if len(places) < LEAST_READINGS or len(np.unique(workers)) < LEAST_WORKERS:
        return None
    left, size, right = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)
    # The sign of a component is arbitrary: ahead of the mean path is positive.
    scores = (left * size)[:, :_COMPONENTS] * np.where(right[:_COMPONENTS].sum(axis=1) < 0, -1, 1)
    stability, p = stabilities(scores, workers)
    clear = next((one for one in stability if one.clear), None)
    if clear:
        codes = k_means(scores, np.ones((1, len(scores))), clear.k, np.random.default_rng(0))[0]
    else:
        codes = _PARTS * np.argsort(np.argsort(scores[:, 0], kind="stable"), kind="stable") // len(scores)
    kinds = np.unique(codes)
    order = kinds[np.argsort([places[codes == kind].mean() for kind in kinds], kind="stable")]
    codes = np.argsort(order)[np.searchsorted(kinds, codes)] if clear else codes
    return Groups(
        modality,
        len(places),
        len(np.unique(workers)),
        stability,
        p,
        clear.k if clear else None,
        [float(one) for one in (size**2 / (size**2).sum())[:_COMPONENTS]],
        [_part(rows, places, codes == kind) for kind in range(len(kinds))],
        trait(codes, workers),
    )


def trait(codes: np.ndarray, workers: np.ndarray) -> Estimate:
    """The number `Groups.trait`, with its interval by leaving out one worker at a time.

    Args:
        codes: (n,) the part of each reading, from 0.
        workers: (n,) whose reading it is.
    """
    whose = np.unique(workers, return_inverse=True)[1]
    counts = np.zeros((whose.max() + 1, codes.max() + 1))
    np.add.at(counts, (whose, codes), 1)
    counts = counts[counts.sum(axis=1) > 1]
    if len(counts) < 3:
        return {"mean": np.nan, "low": np.nan, "high": np.nan}
    sizes = counts.sum(axis=1)
    within = (counts * (counts - 1)).sum(axis=1) / (sizes * (sizes - 1))
    shares = counts / sizes[:, None]

    def excess(kept: np.ndarray) -> float:
        some = shares[kept]
        pairs = len(some) * (len(some) - 1)
        between = ((some.sum(axis=0) ** 2).sum() - (some**2).sum()) / pairs
        return float((within[kept].mean() - between) / (1 - between)) if between < 1 else np.nan

    every = np.arange(len(counts))
    mean = excess(every)
    without = np.array([excess(np.delete(every, one)) for one in every])
    return jackknife(mean, without, mean - without, every).estimate


def _part(rows: pl.DataFrame, places: np.ndarray, inside: np.ndarray) -> Part:
    own, theirs = places[inside], rows.filter(pl.Series(inside))
    nearest = np.argsort(((own - own.mean(axis=0)) ** 2).sum(axis=1), kind="stable")
    medoids = theirs[nearest].unique("worker_id", keep="first", maintain_order=True)[:_MEDOIDS]
    low, median, high = (list(map(float, line)) for line in np.quantile(own, (0.25, 0.5, 0.75), axis=0))
    by_worker = (
        rows.with_columns(inside=pl.Series(inside)).group_by("worker_id").agg(pl.col("inside").mean()).sort("worker_id")
    )
    return Part(
        len(own),
        theirs["worker_id"].n_unique(),
        low,
        median,
        high,
        medoids.select("question_id", "side").rows(),
        by_worker.rows(),
    )
