"""How good probabilities are: accuracy, AUC, Brier, calibration, coverage, with intervals clustered by worker.

All are means over seeds. Intervals are 95 % percentile bootstraps over workers, because one worker's pairs are not
independent. Differences are to a reference, the longer answer, pair by pair and draw by draw.
"""

from typing import TypedDict

import numpy as np
from scipy.stats import rankdata

from ifllm_hub.reward.protocol.pairs import Pairs
from ifllm_hub.statistics import Estimate, interval, worker_draws

_CALIBRATION_BINS = 10


class Spread(Estimate):
    """With the standard deviation over seeds."""

    sd: float


class Score(TypedDict):
    """What `score` gives."""

    accuracy: Spread
    auc: Spread
    brier: float
    ece: float
    accuracy_at_50: float
    gain_over_longer_answer: Estimate
    auc_over_longer_answer: Estimate
    brier_over_longer_answer: Estimate
    coverage: list[float]
    reliability: list[dict[str, float]]


def correct(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Same shape as `probability`: 1 where the likelier side is the preferred one, 0.5 for a tie, else 0."""
    return np.where(probability == 0.5, 0.5, (probability > 0.5) == y)


def auc(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(seeds,) area under the ROC curve (Mann-Whitney, ties count half); NaN if only one side is preferred."""
    left = int(y.sum())
    right = len(y) - left
    if not left or not right:
        return np.full(len(probability), np.nan)
    ranks = rankdata(probability, axis=-1)
    return (ranks[:, y == 1].sum(axis=1) - left * (left + 1) / 2) / (left * right)


def reliability(probability: np.ndarray, y: np.ndarray) -> list[dict[str, float]]:
    """Confidence max(p, 1-p) against accuracy in equal-width bins over [0.5, 1], all seeds pooled."""
    confidence = np.maximum(probability, 1 - probability).ravel()
    hit = correct(probability, y).ravel()
    which = np.minimum(((confidence - 0.5) * 2 * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    return [
        {
            "confidence": float(confidence[which == bin_].mean()),
            "accuracy": float(hit[which == bin_].mean()),
            "share": float((which == bin_).mean()),
        }
        for bin_ in range(_CALIBRATION_BINS)
        if (which == bin_).any()
    ]


def coverage(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(10,) accuracy on the 10, 20, ..., 100 % of the pairs with the highest confidence, mean over seeds.

    Shares are rounded down to whole pairs, at least one. Of equally sure pairs any may come first: all count alike,
    with their mean.
    """
    counts = np.maximum(len(y) * np.arange(1, 11) // 10, 1)
    total = np.zeros(len(y))
    for doubt, hit in zip(-np.abs(probability - 0.5), correct(probability, y), strict=True):
        _, level, size = np.unique(doubt, return_inverse=True, return_counts=True)
        total += np.repeat(np.bincount(level, hit) / size, size)
    return np.cumsum(total / len(probability))[counts - 1] / counts


def score(probability: np.ndarray, reference: np.ndarray, pairs: Pairs) -> Score:
    """All numbers of one leaderboard row.

    Args:
        probability: (seeds, n) out-of-fold P(left preferred).
        reference: (seeds, n) the same of the longer-answer baseline.

    Returns:
        Accuracy and AUC with sd over seeds and interval (`low`, `high`), Brier, ECE, the bins of `reliability`, the
        curve of `coverage`, and differences to the reference with intervals: a better model has a positive difference
        of accuracy and AUC, and a negative one of Brier.
    """
    y = pairs.y
    bins = reliability(probability, y)
    surest = coverage(probability, y)
    hits, areas = correct(probability, y).mean(axis=1), auc(probability, y)
    gains = {
        "accuracy": hits.mean() - correct(reference, y).mean(),
        "auc": areas.mean() - auc(reference, y).mean(),
        "brier": _brier(probability, y).mean() - _brier(reference, y).mean(),
    }
    draws, reference_draws = bootstrapped(probability, pairs), bootstrapped(reference, pairs)
    difference: dict[str, Estimate] = {
        name: {"mean": float(gain), **interval(draws[name] - reference_draws[name])} for name, gain in gains.items()
    }
    return {
        "accuracy": {"mean": float(hits.mean()), "sd": float(hits.std()), **interval(draws["accuracy"])},
        "auc": {"mean": float(areas.mean()), "sd": float(areas.std()), **interval(draws["auc"])},
        "brier": float(_brier(probability, y).mean()),
        "ece": float(sum(bin_["share"] * abs(bin_["confidence"] - bin_["accuracy"]) for bin_ in bins)),
        "accuracy_at_50": float(surest[4]),
        "gain_over_longer_answer": difference["accuracy"],
        "auc_over_longer_answer": difference["auc"],
        "brier_over_longer_answer": difference["brier"],
        "coverage": surest.tolist(),
        "reliability": bins,
    }


def bootstrapped(probability: np.ndarray, pairs: Pairs) -> dict[str, np.ndarray]:
    """Accuracy, AUC and Brier, each (1,000,), on workers drawn with replacement; the same draws for every model.

    With w the times each worker was drawn, accuracy and Brier are ratios of sums over workers, and the AUC is
    w'Mw / ((w'l) (w'r)): M[a, b] counts the pairs of a left-preferring row of worker a and a right-preferring row of
    worker b that the model ranks rightly (ties half), mean over seeds; l and r are the workers' rows of each kind.
    """
    y = pairs.y
    workers = np.unique(pairs.groups("worker_id"), return_inverse=True)[1]
    of_worker = (workers == np.arange(workers.max() + 1)[:, None]).astype(float)
    drawn = worker_draws(len(of_worker))
    rows, left, right = (drawn @ (of_worker @ kind) for kind in (np.ones(len(y)), y, 1 - y))
    ranked = _rightly_ranked(probability, y)
    between = of_worker[:, y == 1] @ ranked @ of_worker[:, y == 0].T
    with np.errstate(invalid="ignore"):  # a draw without one of the sides has no AUC
        area = ((drawn @ between) * drawn).sum(axis=1) / (left * right)
    means = {"accuracy": correct(probability, y), "brier": _brier(probability, y)}
    return {"auc": area} | {name: drawn @ (of_worker @ values.mean(axis=0)) / rows for name, values in means.items()}


def _rightly_ranked(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(left-preferring rows, right-preferring rows): share of seeds in which the former has the larger P(left)."""
    total = np.zeros((int(y.sum()), int((1 - y).sum())))
    for one in probability:
        left, right = one[y == 1][:, None], one[y == 0]
        total += (left > right) + 0.5 * (left == right)
    return total / len(probability)


def _brier(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (probability - y) ** 2
