"""How good probabilities are: accuracy, AUC, Brier, calibration, coverage, with intervals clustered by worker.

All are means over seeds. Intervals are by jackknife over workers, because one worker's pairs are not independent.
Differences are to a reference, the longer answer, pair by pair.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import rankdata

from ifllm_hub.reward.model.config import ProtocolScores
from ifllm_hub.reward.protocol.pairs import Pairs
from ifllm_hub.statistics import Adjusted, Estimate, Jackknife, jackknife, means_without, simultaneous

Measure = Literal["accuracy", "auc", "brier"]
MEASURES: tuple[Measure, ...] = ("accuracy", "auc", "brier")
_CALIBRATION_BINS = 10


class Score(ProtocolScores):
    """What `score` gives."""

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
    own = {name: one.jackknife(pairs) for name, one in measured(probability, pairs).items()}
    over = gains(probability, reference, pairs)
    hits, areas = correct(probability, y).mean(axis=1), auc(probability, y)
    return {
        "accuracy": {**own["accuracy"].estimate, "sd": float(hits.std())},
        "auc": {**own["auc"].estimate, "sd": float(areas.std())},
        "brier": own["brier"].mean,
        "ece": float(sum(bin_["share"] * abs(bin_["confidence"] - bin_["accuracy"]) for bin_ in bins)),
        "accuracy_at_50": float(surest[4]),
        "gain_over_longer_answer": over["accuracy"].estimate,
        "auc_over_longer_answer": over["auc"].estimate,
        "brier_over_longer_answer": over["brier"].estimate,
        "coverage": surest.tolist(),
        "reliability": bins,
    }


def gains(probability: np.ndarray, reference: np.ndarray, pairs: Pairs) -> dict[Measure, Jackknife]:
    """What a model gains over a reference, by measure; arguments as of `score`."""
    ours, theirs = measured(probability, pairs), measured(reference, pairs)
    return {name: (ours[name] - theirs[name]).jackknife(pairs) for name in MEASURES}


def adjusted_gains(models: list[dict[Measure, Jackknife]]) -> list[dict[Measure, Adjusted]]:
    """The gains of models that are shown together, adjusted for all of them and all measures; see `simultaneous`.

    A model that gains exactly nothing, as the reference over itself, is no comparison and costs the others nothing.
    """
    nothing: Adjusted = {"low": 0.0, "high": 0.0, "p": 1.0}
    rows = [(at, name, one[name].moves) for at, one in enumerate(models) for name in MEASURES]
    compared = [(at, name) for at, name, moves in rows if moves.any() or not len(moves)]
    found = dict(zip(compared, simultaneous([models[at][name] for at, name in compared]), strict=True))
    return [{name: found.get((at, name), nothing) for name in MEASURES} for at in range(len(models))]


@dataclass(frozen=True)
class Measured:
    """A measure on all pairs, without each worker, and what each pair adds to it; see `statistics.jackknife`."""

    mean: float
    without: np.ndarray
    linear: np.ndarray

    def __sub__(self, other: "Measured") -> "Measured":
        return Measured(self.mean - other.mean, self.without - other.without, self.linear - other.linear)

    def jackknife(self, pairs: Pairs) -> Jackknife:
        return jackknife(self.mean, self.without, self.linear, pairs.groups("worker_id"))


def measured(probability: np.ndarray, pairs: Pairs) -> dict[Measure, Measured]:
    """Accuracy, AUC and Brier of (seeds, n) probabilities, means over seeds."""
    y, workers = pairs.y, np.unique(pairs.groups("worker_id"), return_inverse=True)[1]
    return {
        "accuracy": _mean(correct(probability, y).mean(axis=0), workers),
        "auc": _area(probability, y, workers),
        "brier": _mean(_brier(probability, y).mean(axis=0), workers),
    }


def _mean(values: np.ndarray, workers: np.ndarray) -> Measured:
    return Measured(float(values.mean()), means_without(values, workers), values)


def _area(probability: np.ndarray, y: np.ndarray, workers: np.ndarray) -> Measured:
    """Without a worker, the comparisons of its rows are missing: those with all rows, less those among its own.

    Rows are compared by ranks, so that no matrix of all with all is made.
    """
    left, right = np.bincount(workers, y), np.bincount(workers, 1 - y)
    won = np.mean([_comparisons(one, y) for one in probability], axis=0)
    members = [np.flatnonzero(workers == worker) for worker in range(len(left))]
    inside = [
        np.mean([_comparisons(one, y[rows])[y[rows] == 1].sum() for one in probability[:, rows]]) for rows in members
    ]
    total = won[y == 1].sum()
    missing = np.bincount(workers, won) - inside
    with np.errstate(invalid="ignore", divide="ignore"):  # no AUC where one side is never preferred
        without = (total - missing) / ((left.sum() - left) * (right.sum() - right))
        area = total / (left.sum() * right.sum())
        opponents = np.where(y == 1, right.sum(), left.sum())
        linear = (won / opponents - area) * len(y) / np.where(y == 1, left.sum(), right.sum())
    return Measured(float(area), np.where(np.isfinite(without), without, np.nan), linear)


def _comparisons(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) of the rows of the other kind, how many are ranked rightly against each row; ties count half."""
    above = rankdata(probability)
    for kind in (0, 1):
        above[y == kind] -= rankdata(probability[y == kind])
    return np.where(y == 1, above, y.sum() - above)


def _brier(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (probability - y) ** 2
