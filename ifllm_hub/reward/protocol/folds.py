"""How accuracy is claimed: folds and seeds, the same for every model, and labels that mean nothing.

A model is a function from training rows to probabilities for test rows; it never sees a test label. All numbers are
out of fold; each seed draws new folds and a new model.
"""

from collections.abc import Callable

import numpy as np
import polars as pl
from sklearn.model_selection import GroupKFold

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.protocol.pairs import Pairs
from ifllm_hub.reward.protocol.scores import auc, correct

__all__ = [
    "FOLDS",
    "LEAVE_ONE_OUT",
    "PROTOCOLS",
    "FitPredict",
    "auc",
    "block_permuted",
    "correct",
    "out_of_fold",
    "permuted",
]

# What the training and the test pairs of a fold never share.
PROTOCOLS = {"question": "question_id", "conversation": "conversation_id", "worker": "worker_id"}
# As many folds as workers: nearly all pairs train, and only the model differs between seeds.
LEAVE_ONE_OUT = "leave one worker out"
FOLDS = 5

# (training pairs, test pairs, seed) -> P(left preferred) of the test pairs.
FitPredict = Callable[[Pairs, Pairs, int], np.ndarray]


def out_of_fold(pairs: Pairs, fit: FitPredict, protocol: str, seeds: int) -> np.ndarray:
    """(seeds, n) P(left preferred), each by a model that saw neither the pair nor its question/conversation/worker.

    Raises:
        IfllmError: all pairs are of one question/conversation/worker, so that none can be held out.
    """
    unit = "worker" if protocol == LEAVE_ONE_OUT else protocol
    groups = pairs.groups(PROTOCOLS[unit])
    count = len(np.unique(groups))
    if count < 2:
        raise IfllmError(
            f"The {len(pairs)} pairs to learn from are of one {unit}, so that none can be held out. Use a dataset of "
            f"more {unit}s."
        )
    probability = np.empty((seeds, len(pairs)))
    for seed in range(seeds):
        folds = GroupKFold(count if protocol == LEAVE_ONE_OUT else min(FOLDS, count), shuffle=True, random_state=seed)
        for train, test in folds.split(groups, groups=groups):
            probability[seed, test] = fit(Pairs(pairs.rows[train]), Pairs(pairs.rows[test]), seed)
    return probability


def permuted(pairs: Pairs, seed: int) -> Pairs:
    """The same pairs with their preferences shuffled: any model must fall to chance on them."""
    shuffled = pairs.rows["preference"].shuffle(seed)
    return Pairs(pairs.rows.with_columns(preference=shuffled))


def block_permuted(pairs: Pairs, seed: int) -> Pairs:
    """The same pairs with the preferences of whole conversations exchanged, among conversations of equal length.

    Preferences of one conversation agree more often than chance. This null keeps that, which `permuted` destroys: a
    model that recognizes conversations across folds stays above chance here. A conversation whose length no other
    has keeps its own.
    """
    conversations = pl.DataFrame({"conversation": pairs.groups("conversation_id")}).with_row_index("row")
    members = conversations.group_by("conversation").agg("row").sort("conversation")["row"].to_list()
    generator = np.random.default_rng(seed)
    source = np.arange(len(pairs))
    for length in sorted({len(rows) for rows in members}):
        alike = np.array([rows for rows in members if len(rows) == length])
        source[alike] = generator.permutation(alike)
    return Pairs(pairs.rows.with_columns(preference=pairs.rows["preference"].gather(source)))
