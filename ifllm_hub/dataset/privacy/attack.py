"""How well the people in a dataset can be told apart: by a rare combination of values, or by the way they read."""

import hashlib
from typing import NotRequired, TypedDict

import numpy as np
import polars as pl

_SMALL_GROUP = 5
# On the study's release, 50 trees name as many workers as 200 (shares of 0.58 to 0.59 and 0.58 to 0.60 over three seeds
# each), and building a dataset takes two thirds of the time.
_FOLDS, _TREES, _RESAMPLES, _SEED = 5, 50, 2_000, 0
# A forest that tells w workers apart needs time and memory for w numbers a leaf and a question, so for w^2 in all.
MOST_WORKERS = 200


class KAnonymity(TypedDict):
    """See `k_anonymity`."""

    quasi_identifiers: list[str]
    k: int
    workers_alone: float
    workers_below_5: float


class Attack(TypedDict):
    """See `reidentify`."""

    workers: int
    conversations: int
    top1: float
    low: float
    high: float
    majority: float
    top1_mean_over_workers: float
    workers_in_all: NotRequired[int]


def k_anonymity(rows: pl.DataFrame, quasi_identifiers: list[str]) -> KAnonymity:
    """How many workers share what is known about one question: the smallest group, and who is in small ones.

    A group is the workers who have a question with the same values, so a worker with many questions is in many groups
    and is only as safe as in the smallest. Null is a value like any other, so that knowing more never makes anybody
    look safer. Where every worker has one row this is pyCANON's k (which counts rows, and cannot be installed here: it
    pins NumPy 2.0.2 and pandas 2.3.3).

    Args:
        rows: `worker_id` and the quasi-identifiers.

    Returns:
        `quasi_identifiers`, `k`, and the shares of workers who are alone in a group (`workers_alone`), or in one of
        fewer than five (`workers_below_5`).
    """
    groups = rows.group_by(quasi_identifiers).agg(pl.col("worker_id").unique())
    sizes = groups.with_columns(size=pl.col("worker_id").list.len()).explode("worker_id")
    smallest = sizes.group_by("worker_id").agg(pl.col("size").min())["size"].to_numpy()
    workers = max(1, rows["worker_id"].n_unique())
    return {
        "quasi_identifiers": quasi_identifiers,
        "k": int(smallest.min(initial=workers)),
        "workers_alone": _rounded((smallest == 1).sum() / workers),
        "workers_below_5": _rounded((smallest < _SMALL_GROUP).sum() / workers),
    }


def reidentify(rows: pl.DataFrame, columns: list[str], most: int = MOST_WORKERS) -> Attack | None:
    """Attack: a forest that has seen other conversations of the same workers names the worker of a new one.

    Only workers with at least two conversations are attacked. Each worker's conversations are dealt in order to five
    folds; a forest trained on four names those of the fifth, by its mean probabilities over a conversation's questions.

    Of many such workers a sample is attacked, among whom each is easier to name than among all.

    Args:
        rows: one per question: `question_id`, `worker_id`, `conversation_id` and `columns`.
        columns: numbers the attacker uses; null where there is none.
        most: workers to attack; of more, those whose ids have the smallest SHA-256.

    Returns:
        `workers`, `conversations`, and shares of conversations: `top1` (named correctly), `low` and `high` (95 %
        bootstrap interval over workers), `majority` (if the worker with the most conversations were always named); and
        `top1_mean_over_workers`, in which every worker counts the same. Only where a sample was attacked,
        `workers_in_all`: how many could have been. None if fewer than two workers can be attacked.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    dealt = (
        rows.group_by("worker_id", "conversation_id")
        .agg(first=pl.col("question_id").min())
        .sort("worker_id", "first")
        .with_columns(fold=pl.int_range(pl.len()).over("worker_id") % _FOLDS)
        .filter(pl.len().over("worker_id") > 1)
    )
    attackable = dealt["worker_id"].unique().to_list()
    sample = sorted(attackable, key=_digest)[:most]
    sampled = dealt.filter(pl.col("worker_id").is_in(sample))
    attacked = rows.join(sampled, on=["worker_id", "conversation_id"]).sort("question_id")
    workers, worker = np.unique(attacked["worker_id"].to_list(), return_inverse=True)
    if len(workers) < 2:
        return None
    probabilities = cross_val_predict(
        ExtraTreesClassifier(_TREES, random_state=_SEED),
        attacked.select(columns).to_numpy().astype(np.float64),
        worker,
        cv=PredefinedSplit(attacked["fold"].to_numpy()),
        method="predict_proba",
    )
    conversations = attacked["conversation_id"].to_list()
    _, first, conversation = np.unique(conversations, return_index=True, return_inverse=True)
    summed = np.zeros((len(first), len(workers)))
    np.add.at(summed, conversation, probabilities)
    truth = worker[first]
    total, right = np.bincount(truth), np.bincount(truth, weights=summed.argmax(axis=1) == truth)
    drawn = np.random.default_rng(_SEED).integers(len(workers), size=(_RESAMPLES, len(workers)))
    low, high = np.quantile(right[drawn].sum(axis=1) / total[drawn].sum(axis=1), (0.025, 0.975))
    found: Attack = {
        "workers": len(workers),
        "conversations": len(first),
        "top1": _rounded(right.sum() / total.sum()),
        "low": _rounded(low),
        "high": _rounded(high),
        "majority": _rounded(total.max() / total.sum()),
        "top1_mean_over_workers": _rounded((right / total).mean()),
    }
    if len(attackable) > len(workers):
        found["workers_in_all"] = len(attackable)
    return found


def _digest(worker: str) -> bytes:
    return hashlib.sha256(worker.encode()).digest()


def _rounded(share: np.floating) -> float:
    return round(float(share), 4)
