"""Whether the estimators find what is true: many simulated studies by a judge with known faults."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from eval.studies.simulated_judge import SimulatedJudge, asked_once, simulated_judgments, simulated_scores
from ifllm_hub.evaluation.comparison.differences import differences
from ifllm_hub.evaluation.comparison.statistics import paper_standard_error, summary

# Share of prompts with the baseline's answer first in the paper's larger pass.
BASELINE_FIRST = 0.44
ONE_ORDER = "difference, one order, the paper's SE"
BOTH_ORDERS = "difference, both orders, the paper's SE"
# Of what ships: the name here, the key in `statistics.summary`.
SHIPPED = {
    "difference, both orders": "difference",
    "mean over LLMs": "mean_over_llms",
    "difference at equal lengths": "length_controlled_difference",
    "win rate, both orders": "win_rate",
    "length-controlled win rate": "length_controlled_win_rate",
}
# A word decides the winner only if it is the same in both orders; ties count half.
STRICT = "win rate, same word in both orders"
_WIN_RATES = {"win rate, both orders", "length-controlled win rate", STRICT}
_LARGE = (400, 500)


@dataclass(frozen=True)
class Recovery:
    """What one estimator made of many studies.

    Attributes:
        truth: what it should find: the mean difference of quality, or the win rate that a judge with the same noise but
            no favor for position or length would give.
        mean: of its estimates.
        sd: of its estimates.
        covered: share of the studies whose 95 % interval holds the truth; None if it has no interval.
        width: mean width of the interval; None likewise.
    """

    truth: float
    mean: float
    sd: float
    covered: float | None
    width: float | None


def true_win_rate(judge: SimulatedJudge) -> float:
    """The win rate, ties half, under the same noise without favor for position or length: 200,000 made-up pairs."""
    fair = replace(judge, position_bias=0.0, length_bias=0.0)
    scores = simulated_scores(fair, *_LARGE, np.random.default_rng(0))
    difference = (scores.model - scores.baseline).mean(axis=0)
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def recovery(
    judge: SimulatedJudge,
    runs: int,
    llms: int = 8,
    prompts: int = 60,
    draws: int = 300,
    seed: int = 0,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[str, Recovery]:
    """Simulate studies and estimate, by what ships and by the paper's one order.

    Args:
        judge: its faults, and what is true.
        runs: studies, each with new LLMs, prompts and noise.
        llms, prompts: of each study.
        draws: of the bootstrap in each.
        seed: of the first study; the next has the next.
        advance: told the share that is done.

    Returns:
        By the name of the estimator.
    """
    names = [f"llm{number}" for number in range(llms)]
    estimates: dict[str, list[tuple[float, float, float]]] = {}
    for run in range(runs):
        judgments = simulated_judgments(judge, names, prompts, seed + run)
        for name, estimate in _estimates(judgments, draws, seed + run).items():
            estimates.setdefault(name, []).append(estimate)
        advance((run + 1) / runs)
    rate = true_win_rate(judge)
    return {name: _recovery(rate if name in _WIN_RATES else judge.effect, found) for name, found in estimates.items()}


def _estimates(judgments: pl.DataFrame, draws: int, seed: int) -> dict[str, tuple[float, float, float]]:
    pairs = differences(judgments).pairs
    numbers = summary(pairs, draws, seed)
    once = differences(asked_once(judgments, BASELINE_FIRST, seed)).pairs["difference"].to_numpy()
    word = numbers["wins_in_both"] + (1 - numbers["wins_in_both"] - numbers["losses_in_both"]) / 2
    found = {name: numbers[key] for name, key in SHIPPED.items()}
    return {
        ONE_ORDER: _by_paper(once),
        BOTH_ORDERS: _by_paper(pairs["difference"].to_numpy()),
        **{name: (score["mean"], score["low"], score["high"]) for name, score in found.items()},
        STRICT: (word, np.nan, np.nan),
    }


def _by_paper(values: np.ndarray) -> tuple[float, float, float]:
    half = 1.96 * paper_standard_error(values)
    return float(values.mean()), float(values.mean()) - half, float(values.mean()) + half


def _recovery(truth: float, found: list[tuple[float, float, float]]) -> Recovery:
    mean, low, high = np.array(found).T
    has_interval = bool(np.isfinite(low).all())
    return Recovery(
        truth=truth,
        mean=float(mean.mean()),
        sd=float(mean.std()),
        covered=float(((low <= truth) & (truth <= high)).mean()) if has_interval else None,
        width=float((high - low).mean()) if has_interval else None,
    )
