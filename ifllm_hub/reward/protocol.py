"""How accuracy is claimed: folds, seeds, baselines and worker-clustered intervals, the same for every model.

A model is a function from training rows to probabilities for test rows; it never sees a test label. All numbers are
out of fold, as means over seeds (each seed draws new folds and a new forest). Intervals are 95 % percentile bootstraps
over workers, because one worker's pairs are not independent. Differences are to the longer answer, pair by pair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from ifllm_hub.reward.model import ImplicitFeedbackRewardModel
from ifllm_hub.reward.pairs import FEATURES, GAZE_FEATURES, LENGTH_FEATURES, MOUSE_FEATURES, Pairs

PROTOCOLS = {"question": "question_id", "conversation": "conversation_id", "worker": "worker_id"}
FOLDS = 5
_BOOTSTRAPS = 1_000
_CALIBRATION_BINS = 10

# (training pairs, test pairs, seed) -> P(left preferred) of the test pairs.
Fit = Callable[[Pairs, Pairs, int], np.ndarray]


@dataclass(frozen=True)
class Candidate:
    """One row of the leaderboard."""

    name: str
    fit: Fit


def forest(features: tuple[str, ...]) -> Fit:
    """The reward model on some features."""

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        model = ImplicitFeedbackRewardModel(random_state=seed)
        model.fit(train.X(features), train.y, train.groups("worker_id"))
        return model.predict_proba(test.X(features))[:, 1]

    return fit


def logistic(features: tuple[str, ...]) -> Fit:
    """Antisymmetric logistic regression: no intercept, scaled by the training pairs, undefined contrasts are 0."""

    def fit(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        X, X_test = np.nan_to_num(train.X(features)), np.nan_to_num(test.X(features))
        scale = np.sqrt((X**2).mean(axis=0)) + 1e-12
        model = LogisticRegression(fit_intercept=False).fit(X / scale, train.y)
        return model.predict_proba(X_test / scale)[:, 1]

    return fit


def majority(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
    """The share of left among the training pairs."""
    return np.full(len(test), train.y.mean())


LONGER_ANSWER = Candidate("longer answer", logistic(LENGTH_FEATURES))
FOREST = Candidate("forest: mouse + gaze + length", forest(FEATURES))
CANDIDATES = (
    Candidate("majority side", majority),
    LONGER_ANSWER,
    Candidate("logistic: mouse dwell + length", logistic(("mouse_dwell_log_ratio", *LENGTH_FEATURES))),
    FOREST,
    Candidate("forest: mouse + length", forest(MOUSE_FEATURES + LENGTH_FEATURES)),
    Candidate("forest: gaze + length", forest(GAZE_FEATURES + LENGTH_FEATURES)),
    Candidate("forest: mouse only", forest(MOUSE_FEATURES)),
    Candidate("forest: gaze only", forest(GAZE_FEATURES)),
)


def out_of_fold(pairs: Pairs, fit: Fit, protocol: str, seeds: int) -> np.ndarray:
    """(seeds, n) P(left preferred), each by a model that saw neither the pair nor its question/conversation/worker."""
    groups = pairs.groups(PROTOCOLS[protocol])
    probability = np.empty((seeds, len(pairs)))
    for seed in range(seeds):
        folds = GroupKFold(min(FOLDS, len(np.unique(groups))), shuffle=True, random_state=seed)
        for train, test in folds.split(groups, groups=groups):
            probability[seed, test] = fit(Pairs(pairs.rows[train]), Pairs(pairs.rows[test]), seed)
    return probability


def correct(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Same shape as `probability`: 1 where the likelier side is the preferred one, 0.5 for a tie, else 0."""
    return np.where(probability == 0.5, 0.5, (probability > 0.5) == y)


def auc(probability: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(seeds,) area under the ROC curve (Mann-Whitney, ties count half)."""
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


def accuracy_at_half(probability: np.ndarray, y: np.ndarray) -> float:
    """Accuracy on the half of the pairs with the highest confidence, mean over seeds."""
    half = len(y) // 2
    hit = correct(probability, y)
    surest = np.argsort(-np.abs(probability - 0.5), axis=1, kind="stable")[:, :half]
    return float(np.take_along_axis(hit, surest, axis=1).mean())


def score(probability: np.ndarray, reference: np.ndarray, pairs: Pairs) -> dict[str, Any]:
    """All numbers of one leaderboard row.

    Args:
        probability: (seeds, n) out-of-fold P(left preferred).
        reference: (seeds, n) the same of the longer-answer baseline.
    """
    y = pairs.y
    hit, hit_reference = correct(probability, y), correct(reference, y)
    bins = reliability(probability, y)
    brier = (probability - y) ** 2
    gain = (hit - hit_reference).mean(axis=0)
    areas, low_high = auc(probability, y), _intervals(pairs, probability, hit.mean(axis=0), gain)
    return {
        "accuracy": {"mean": float(hit.mean()), "sd": float(hit.mean(axis=1).std()), **low_high["accuracy"]},
        "auc": {"mean": float(areas.mean()), "sd": float(areas.std()), **low_high["auc"]},
        "brier": float(brier.mean()),
        "ece": float(sum(bin_["share"] * abs(bin_["confidence"] - bin_["accuracy"]) for bin_ in bins)),
        "accuracy_at_50": accuracy_at_half(probability, y),
        "gain_over_longer_answer": {"mean": float(gain.mean()), **low_high["gain"]},
        "reliability": bins,
    }


def _intervals(pairs: Pairs, probability: np.ndarray, hit: np.ndarray, gain: np.ndarray) -> dict[str, dict[str, float]]:
    y = pairs.y
    workers = pairs.groups("worker_id")
    members = [np.flatnonzero(workers == worker) for worker in np.unique(workers)]
    generator = np.random.default_rng(0)
    draws: dict[str, list[float]] = {"accuracy": [], "auc": [], "gain": []}
    for _ in range(_BOOTSTRAPS):
        rows = np.concatenate([members[i] for i in generator.integers(len(members), size=len(members))])
        draws["accuracy"].append(hit[rows].mean())
        draws["gain"].append(gain[rows].mean())
        draws["auc"].append(auc(probability[:, rows], y[rows]).mean())
    return {
        name: dict(zip(("low", "high"), np.nanpercentile(values, [2.5, 97.5]).tolist(), strict=True))
        for name, values in draws.items()
    }


def permuted(pairs: Pairs, seed: int) -> Pairs:
    """The same pairs with their preferences shuffled: any model must fall to chance on them."""
    shuffled = pairs.rows["preference"].shuffle(seed)
    return Pairs(pairs.rows.with_columns(preference=shuffled))


def leaderboard(
    pairs: Pairs, seeds: int = 20, n_jobs: int = 1, advance: Callable[[float], None] | None = None
) -> dict[str, Any]:
    """Every candidate under every protocol, and the forest on permuted labels.

    Args:
        pairs: from `labelled`.
        seeds: fold and forest seeds.
        n_jobs: processes.
        advance: called with the share done (0-1).
    """
    from joblib import Parallel, delayed

    jobs = [(candidate, protocol) for protocol in PROTOCOLS for candidate in CANDIDATES]
    nulls = list(PROTOCOLS)
    total = len(jobs) + len(nulls)
    tasks = [delayed(out_of_fold)(pairs, candidate.fit, protocol, seeds) for candidate, protocol in jobs]
    tasks += [delayed(_null)(pairs, protocol, seeds) for protocol in nulls]
    results = []
    for result in Parallel(n_jobs=n_jobs, return_as="generator")(tasks):
        results.append(result)
        if advance:
            advance(len(results) / total)
    by_job = {(candidate.name, protocol): p for (candidate, protocol), p in zip(jobs, results, strict=False)}
    scored = Parallel(n_jobs=n_jobs)(
        delayed(score)(by_job[candidate.name, protocol], by_job[LONGER_ANSWER.name, protocol], pairs)
        for candidate, protocol in jobs
    )
    return {
        "pairs": len(pairs),
        "workers": int(pairs.rows["worker_id"].n_unique()),
        "conversations": int(pairs.rows["conversation_id"].n_unique()),
        "left_preferred": float(pairs.y.mean()),
        "seeds": seeds,
        "rows": [
            {"model": candidate.name, "protocol": protocol, **row}
            for (candidate, protocol), row in zip(jobs, scored, strict=True)
        ],
        "permuted_labels": {
            protocol: {"mean": float(np.mean(values)), "sd": float(np.std(values))}
            for protocol, values in zip(nulls, results[len(jobs) :], strict=True)
        },
    }


def _null(pairs: Pairs, protocol: str, seeds: int) -> np.ndarray:
    """(seeds,) accuracy of the forest on labels permuted anew for each seed."""
    return np.array(
        [
            correct(out_of_fold(shuffled, FOREST.fit, protocol, 1), shuffled.y).mean()
            for shuffled in (permuted(pairs, seed) for seed in range(seeds))
        ]
    )
