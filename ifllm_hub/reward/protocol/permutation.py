"""Does reading tell anything that length does not? Behavior exchanged between conversations, given length.

Longer answers are read for longer and preferred more often, so that behavior predicts preferences even if it says
nothing by itself. Here the null hypothesis is that it does not: given the lengths and the worker, it is arbitrary which
conversation's behavior stands beside which conversation's preferences. What length does not explain of the contrasts
is exchanged between whole conversations of a worker with equally many pairs, everything is fitted again, and the gain
over length is compared with that on the real pairs (the method "Smith" of Winkler et al. 2014, in the blocks of Winkler
et al. 2015). Conversations move as a whole because their preferences are alike: the same two LLMs answer in all of one.

This asks about these workers. How much the gain varies between workers is another question, which the intervals of the
leaderboard answer.
"""

import math
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import polars as pl

from ifllm_hub.features.centering import HABITUAL, center_by_past, center_by_worker
from ifllm_hub.reward.protocol.candidates import LONGER_ANSWER, logistic
from ifllm_hub.reward.protocol.folds import FitPredict, out_of_fold
from ifllm_hub.reward.protocol.pairs import LENGTH_FEATURES, Pairs, labeled
from ifllm_hub.reward.protocol.scores import MEASURES, Measure, Measured, measured
from ifllm_hub.terms import Advance

_COLUMNS = (
    "question_id",
    "worker_id",
    "conversation_id",
    "turn",
    "asked_at",
    "preference",
    *LENGTH_FEATURES,
    *HABITUAL,
)
# The better way: Brier scores fall.
_BETTER: dict[Measure, int] = {"accuracy": 1, "auc": 1, "brier": -1}


class Permuted(TypedDict):
    """What `permutation_test` found.

    `smallest_p` is the smallest p value that so many draws, and so many ways to exchange, allow. `gains` are those of
    the real pairs over the longer answer, by feature set; `p` are the one-sided p values of each; `best_p`, by measure,
    is the p value of the best feature set, adjusted for the choice among them.
    """

    draws: int
    smallest_p: float
    conversations: int
    exchanged: int
    gains: dict[str, dict[Measure, float]]
    p: dict[str, dict[Measure, float]]
    best_p: dict[Measure, float]


@dataclass(frozen=True)
class Exchange:
    """Rated pairs whose behavior can be exchanged; see `exchange_of`.

    Attributes:
        rows: all pairs of their workers, rated or not, because habits come from all readings.
        rated: positions of the rated pairs in `rows`.
        blocks: (conversations, pairs) positions each, of conversations that may exchange theirs: one worker's, with
            equally many rated pairs, these in the order of their turns.
        explained: (rows, contrasts) what length says of each contrast.
        residual: (rows, contrasts) the rest; NaN where there was no such reading.
    """

    rows: pl.DataFrame
    rated: np.ndarray
    blocks: tuple[np.ndarray, ...]
    explained: np.ndarray
    residual: np.ndarray

    def pairs(self, generator: np.random.Generator | None = None) -> Pairs:
        """The rated pairs with behavior exchanged at random, centered anew; without a generator, as they were."""
        source = np.arange(self.rows.height)
        if generator:
            for block in self.blocks:
                source[block] = generator.permutation(block)  # its rows, which are conversations
        contrasts = self.explained + self.residual[source]
        read = {name: pl.Series(contrasts[:, i]).fill_nan(None) for i, name in enumerate(HABITUAL)}
        return Pairs(center_by_past(center_by_worker(self.rows.with_columns(**read)))[self.rated])


def exchange_of(pairs: Pairs) -> Exchange:
    """Prepare the exchange.

    Args:
        pairs: all of a dataset, from `load_pairs`.

    Raises:
        IfllmError: see `labeled`.
    """
    chosen = labeled(pairs).rows["question_id"]
    rows = pairs.rows.select(_COLUMNS).sort("worker_id", "asked_at", "question_id")
    rated = rows.select(pl.col("question_id").is_in(chosen.to_list()).arg_true()).to_series().to_numpy()
    members = (
        rows[rated]
        .with_columns(row=pl.Series(rated))
        .sort("turn")
        .group_by("worker_id", "conversation_id")
        .agg("row")
        .sort("worker_id", "conversation_id")
        .with_columns(count=pl.col("row").list.len())
        .group_by("worker_id", "count", maintain_order=True)
        .agg("row")
        .filter(pl.col("row").list.len() > 1)
    )
    blocks = tuple(np.array(block) for block in members["row"].to_list())
    length = rows.select(LENGTH_FEATURES).to_numpy()
    contrasts = rows.select(HABITUAL).to_numpy()
    read = np.isfinite(contrasts)
    # A line through 0, as swapping the answers negates both.
    slopes = np.where(read, length * contrasts, 0).sum(axis=0) / np.maximum((read * length**2).sum(axis=0), 1e-12)
    explained = length * slopes
    return Exchange(rows, rated, blocks, explained, contrasts - explained)


def permutation_test(
    pairs: Pairs,
    feature_sets: dict[str, tuple[str, ...]],
    draws: int = 999,
    seeds: int = 5,
    n_jobs: int = 1,
    seed: int = 0,
    advance: Advance | None = None,
) -> Permuted:
    """Whether logistic regressions on length and behavior gain over length more than with behavior exchanged.

    The p value of one set is (1 + draws in which the gain is at least as good) / (1 + draws). That of the best set is
    the same of the largest standardized gain over all sets (max-T, Westfall & Young 1993), the mean and the standard
    deviation being those over the real pairs and all draws.

    Args:
        pairs: all of a dataset, from `load_pairs`.
        feature_sets: what stands beside the length, by name; columns of `Pairs`.
        draws: exchanges.
        seeds: of the folds, over workers.
        n_jobs: processes.
        seed: of the exchanges.
        advance: called with the share done (0-1).

    Raises:
        IfllmError: see `labeled`.

    Examples:
        >>> from ifllm_hub.reward.protocol.pairs import LENGTH_FEATURES, MOUSE_FEATURES, load_pairs
        >>> from ifllm_hub.reward.protocol.permutation import permutation_test
        >>> sets = {"mouse": LENGTH_FEATURES + MOUSE_FEATURES}
        >>> found = permutation_test(load_pairs("ifllm"), sets, draws=9, seeds=1)
        >>> found["conversations"], found["exchanged"], round(found["gains"]["mouse"]["brier"], 2)
        (8, 0, -0.09)
    """
    from joblib import Parallel, delayed

    exchange = exchange_of(pairs)
    fits = {name: logistic(features) for name, features in feature_sets.items()}
    # Lengths stay where they are, and so does what they tell.
    reference = {name: one.mean for name, one in _measured(exchange.pairs(), LONGER_ANSWER.fit, seeds).items()}
    found = []
    for one in Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_gains)(exchange, fits, reference, seeds, None if draw is None else (seed, draw))
        for draw in (None, *range(draws))
    ):
        found.append(one)
        if advance:
            advance(len(found) / (draws + 1))
    gains = np.array(found)  # (1 + draws, sets, measures); the real pairs first
    better = gains * [_BETTER[measure] for measure in MEASURES]
    with np.errstate(invalid="ignore", divide="ignore"):  # nothing can be exchanged
        standard = np.nan_to_num((better - better.mean(axis=0)) / better.std(axis=0)).max(axis=1)
    one_sided = (better >= better[0] - 1e-12).mean(axis=0)
    best = (standard >= standard[0] - 1e-12).mean(axis=0)
    return {
        "draws": draws,
        "smallest_p": max(1 / (1 + draws), math.exp(-sum(math.lgamma(len(block) + 1) for block in exchange.blocks))),
        "conversations": int(exchange.rows[exchange.rated]["conversation_id"].n_unique()),
        "exchanged": sum(len(block) for block in exchange.blocks),
        "gains": {name: dict(zip(MEASURES, gains[0, i].tolist(), strict=True)) for i, name in enumerate(fits)},
        "p": {name: dict(zip(MEASURES, one_sided[i].tolist(), strict=True)) for i, name in enumerate(fits)},
        "best_p": dict(zip(MEASURES, best.tolist(), strict=True)),
    }


def _gains(
    exchange: Exchange,
    fits: dict[str, FitPredict],
    reference: dict[Measure, float],
    seeds: int,
    draw: tuple[int, int] | None,
) -> list[list[float]]:
    """(feature sets, measures) gains with behavior exchanged, or as it was."""
    pairs = exchange.pairs(None if draw is None else np.random.default_rng(draw))
    told = [_measured(pairs, fit, seeds) for fit in fits.values()]
    return [[one[measure].mean - reference[measure] for measure in MEASURES] for one in told]


def _measured(pairs: Pairs, fit: FitPredict, seeds: int) -> dict[Measure, Measured]:
    return measured(out_of_fold(pairs, fit, "worker", seeds), pairs)
