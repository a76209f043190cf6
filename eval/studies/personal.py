"""What a worker's own ratings add: an offset on the logit, for the side this person prefers whatever stands there.

    P(left preferred) = expit(logit(p) + b),  b ~ Normal(0, variance)

p is of a model that never saw the worker, b the most probable offset after the worker's earlier ratings. An offset
breaks antisymmetry on purpose: a leaning to one side is what it learns, and swapping the answers does not swap it. So
it can foretell a person's choice, but it says nothing about the answers and has no place in a reward or a label.
"""

import numpy as np
import polars as pl
from scipy.optimize import brentq
from scipy.special import expit, logit, logsumexp

from ifllm_hub.reward.protocol.folds import FitPredict, out_of_fold
from ifllm_hub.reward.protocol.pairs import Pairs

# What the prior variance is chosen from: standard deviations from a tenth of a logit to two.
VARIANCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
# Where the marginal likelihood is summed: half the smallest standard deviation apart, four of the largest wide.
_OFFSETS = np.arange(-160, 161) / 20


def earlier_ratings(pairs: Pairs) -> np.ndarray:
    """(n,) int64: how many of these pairs the same worker was asked before this one."""
    order = pl.struct("asked_at", "question_id").rank("ordinal").over("worker_id")
    return pairs.rows.select(order.cast(pl.Int64) - 1).to_series().to_numpy()


def personalized(
    probability: np.ndarray, variance: np.ndarray, pairs: Pairs, first: int, own_conversation: bool = True
) -> np.ndarray:
    """Each probability, moved by what the worker's earlier ratings among the first few say.

    Args:
        probability: (seeds, n) P(left preferred) by models that saw none of the worker's ratings.
        variance: (seeds, n) of the prior, see `offset_variance`; the same for all pairs of a worker.
        pairs: the n pairs, with `asked_at`.
        first: ratings of a worker that may be used; 0 gives `probability` back, to the bit.
        own_conversation: whether earlier ratings in the pair's own conversation count. Each side keeps its LLM
            throughout a conversation, so they speak of the answers as well as of the worker.

    Returns:
        (seeds, n). No value rests on the pair's own rating or on a later one.
    """
    y, before = pairs.y, earlier_ratings(pairs)
    workers, conversations = pairs.groups("worker_id"), pairs.groups("conversation_id")
    moved = np.empty_like(probability)
    for row in range(len(pairs)):
        usable = (workers == workers[row]) & (before < min(before[row], first))
        known = np.flatnonzero(usable & (own_conversation | (conversations != conversations[row])))
        for seed, one in enumerate(probability):
            offset = side_offset(one[known], y[known], variance[seed, row])
            # expit(logit(p) + offset), written so that no offset changes no bit.
            moved[seed, row] = one[row] / (one[row] + (1 - one[row]) * np.exp(-offset))
    return moved


def side_offset(probability: np.ndarray, y: np.ndarray, variance: float) -> float:
    """The b that maximizes sum log P(y | expit(logit(probability) + b)) - b^2 / (2 variance); 0 without ratings.

    Args:
        probability: (n,) P(left preferred) without the offset, within (0, 1).
        y: (n,) 1 where left is preferred, else 0.
        variance: of the prior, larger than 0.
    """
    logits, left, reach = logit(probability), y.sum(), variance * len(y)
    if not reach:
        return 0.0
    # The slope falls in b, and each rating moves it by less than 1: its root is closer to 0 than `reach`.
    return float(brentq(lambda b: left - expit(logits + b).sum() - b / variance, -reach, reach))


def offset_variance(fit: FitPredict) -> FitPredict:
    """A model for `out_of_fold` whose predictions are prior variances for `fit`, the same for all pairs of a fold.

    Of `VARIANCES`, the one with the largest marginal likelihood of the training workers' ratings, the offsets
    integrated out worker by worker (empirical Bayes). Their probabilities are out of fold by worker themselves, and no
    test pair takes part.
    """

    def variance(train: Pairs, test: Pairs, seed: int) -> np.ndarray:
        probability = out_of_fold(train, fit, "worker", 1)[0]
        return np.full(len(test), _likeliest(probability, train.y, train.groups("worker_id")))

    return variance


def _likeliest(probability: np.ndarray, y: np.ndarray, workers: np.ndarray) -> float:
    margins = (2 * y - 1)[:, None] * (logit(probability)[:, None] + _OFFSETS)
    of_worker = (workers == np.unique(workers)[:, None]).astype(float)
    likelihood = of_worker @ -np.logaddexp(0, -margins)
    evidence = [_evidence(likelihood, variance) for variance in VARIANCES]
    return VARIANCES[int(np.argmax(evidence))]


def _evidence(likelihood: np.ndarray, variance: float) -> float:
    """Log marginal likelihood of all workers, from each one's log likelihood at `_OFFSETS`."""
    prior = -(_OFFSETS**2) / (2 * variance)
    return float((logsumexp(likelihood + prior, axis=1) - logsumexp(prior)).sum())
