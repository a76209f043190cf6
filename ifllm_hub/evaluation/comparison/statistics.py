"""How much better the judge finds the aligned models, and how sure that is: estimates with clustered intervals.

d_li is the difference of scores, model minus baseline, of LLM l on prompt i (`differences.differences`).

Intervals are 95 %: estimate -+ t(g - 1) x sd of the estimate over bootstrap draws, with g the number of clusters of
whichever drawn kind has fewer. Eight LLMs are few, and plain percentiles of so few clusters are too narrow.
"""

from typing import Any, cast

import numpy as np
import polars as pl
from scipy.special import expit
from scipy.stats import t as student

from ifllm_hub.evaluation.comparison.document import Contrast, Summary

BOOTSTRAPS = 1_000
SEED = 0
THIRDS = ("short", "medium", "long")

_SHARES = {"wins": "model", "ties": "tie", "losses": "baseline"}
_POINTS = {"model": 1.0, "tie": 0.5, "baseline": 0.0}
# The logistic regression stays finite where one side wins everything: a normal prior of this precision, worth far less
# than one pair.
_RIDGE = 0.01
_STEPS = 60
_LARGEST_STEP = 2.0


class Resampling:
    """The pigeonhole bootstrap: prompts and LLMs are drawn apart, and a pair's weight is the product.

    A prompt recurs with every LLM and an LLM with every prompt, so pairs are not independent. The variance over draws
    covers both kinds of clusters and errs on the large side (Owen 2007, https://doi.org/10.1214/07-AOAS122). With one
    LLM, or if LLMs are not to be drawn, this is the bootstrap over prompts.

    Attributes:
        weights: (draws, n) float64, how often each pair counts.
    """

    def __init__(
        self, prompts: np.ndarray, llms: np.ndarray, draw_llms: bool = True, draws: int = BOOTSTRAPS, seed: int = SEED
    ):
        """Draw the weights.

        Args:
            prompts, llms: (n,) the prompt and the LLM of each pair.
            draw_llms: False for an interval that covers other prompts but only these LLMs.
        """
        generator = np.random.default_rng(seed)
        _, prompt = np.unique(prompts, return_inverse=True)
        names, self._llm = np.unique(llms, return_inverse=True)
        self._by_prompt = _times_drawn(prompt.max() + 1, generator, draws)[:, prompt]
        clusters = [prompt.max() + 1]
        self._by_llm = np.ones((draws, len(names)))
        if draw_llms and len(names) > 1:
            self._by_llm = _times_drawn(len(names), generator, draws)
            clusters.append(len(names))
        self.weights = self._by_prompt * self._by_llm[:, self._llm]
        freedom = min(clusters) - 1
        self._quantile = float(student.ppf(0.975, freedom)) if freedom else np.nan

    def interval(self, estimate: float, draws: np.ndarray) -> dict[str, float]:
        """`mean` (the estimate) with `low` and `high`; these are NaN for a single cluster."""
        half = self._quantile * float(np.nanstd(draws)) if np.isfinite(self._quantile) else np.nan
        return {"mean": float(estimate), "low": float(estimate) - half, "high": float(estimate) + half}

    def mean(self, values: np.ndarray) -> dict[str, float]:
        """The mean of (n,) values, with its interval."""
        return self.interval(values.mean(), weighted_mean(self.weights, values))

    def mean_over_llms(self, values: np.ndarray) -> dict[str, float]:
        """(1 / L) sum_l (1 / n_l) sum_i d_li, with its interval: each LLM counts equally, however many prompts it
        has."""
        member = (self._llm[:, None] == np.arange(self._by_llm.shape[1])).astype(float)
        estimate = ((values @ member) / member.sum(axis=0)).mean()
        with np.errstate(invalid="ignore"):
            means = ((self._by_prompt * values) @ member) / (self._by_prompt @ member)
            times = np.where(np.isnan(means), 0, self._by_llm)  # an LLM none of whose prompts was drawn
            return self.interval(estimate, (np.nan_to_num(means) * times).sum(axis=1) / times.sum(axis=1))

    def share(self, values: np.ndarray) -> dict[str, float]:
        """The mean of (n,) values in [0, 1], with its interval cut to that range."""
        return {key: float(np.clip(value, 0, 1)) for key, value in self.mean(values).items()}


def weighted_mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(draws,) means of (n,) values under (draws, n) weights; NaN where nothing was drawn."""
    with np.errstate(invalid="ignore"):
        return (weights @ values) / weights.sum(axis=1)


def paper_standard_error(values: np.ndarray) -> float:
    """The paper's: population sd / sqrt(n - 1), as if all pairs were independent; NaN for a single one."""
    return float(values.std() / np.sqrt(len(values) - 1)) if len(values) > 1 else float("nan")


def length_term(chars_model: np.ndarray, chars_baseline: np.ndarray) -> np.ndarray:
    """(n,) x = tanh(D / sd(D)), D the difference of the answers' lengths in code points; 0 if all D are alike.

    The length term of https://huggingface.co/papers/2404.04475 (AlpacaEval 2). If all D are alike but not zero, length
    cannot be separated from quality and stays in.
    """
    difference = chars_model.astype(float) - chars_baseline
    spread = difference.std()
    return np.tanh(difference / spread) if spread > 0 else np.zeros(len(difference))


def length_controlled_mean(weights: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(draws,) a of the weighted least squares fit d = a + b x: the difference of scores at equal lengths."""
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = (weights @ x) / total, (weights @ values) / total
        variance = (weights @ x**2) / total - mean_x**2
        slope = np.where(variance > 1e-12, ((weights @ (x * values)) / total - mean_x * mean_y) / variance, 0)
        return mean_y - slope * mean_x


def length_controlled_logit(weights: np.ndarray, points: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(draws,) a of the weighted logistic regression P(win) = 1 / (1 + exp(-(a + b x))), a tie as half a win.

    1 / (1 + exp(-a)) is the length-controlled win rate of https://huggingface.co/papers/2404.04475: what the win rate
    would be if both answers had the same length. Of its three terms this has the model's and the length's; the third,
    the difficulty of an instruction, is fitted there on many models and left out here. Newton's method, all draws at
    once.
    """
    a, b = np.zeros(len(weights)), np.zeros(len(weights))
    for _ in range(_STEPS):
        p = expit(a[:, None] + b[:, None] * x)
        rest, curve = weights * (points - p), weights * p * (1 - p)
        slope_a, slope_b = rest.sum(axis=1) - _RIDGE * a, rest @ x - _RIDGE * b
        aa, ab, bb = curve.sum(axis=1) + _RIDGE, curve @ x, curve @ x**2 + _RIDGE
        determinant = aa * bb - ab**2
        step_a = (bb * slope_a - ab * slope_b) / determinant
        step_b = (aa * slope_b - ab * slope_a) / determinant
        a += np.clip(step_a, -_LARGEST_STEP, _LARGEST_STEP)
        b += np.clip(step_b, -_LARGEST_STEP, _LARGEST_STEP)
        if max(np.abs(step_a).max(), np.abs(step_b).max()) < 1e-9:
            break
    return a


def summary(pairs: pl.DataFrame, draws: int = BOOTSTRAPS, seed: int = SEED) -> Summary:
    """All numbers of one cell of the table, or of the pairs of several.

    Args:
        pairs: rows of `Differences.pairs`, at least one.
        draws: of the bootstrap.
        seed: of the bootstrap; the same seed gives the same numbers.

    Returns:
        Counts `n`, `llms`, `prompts`; `difference`, the paper's measure (1 / n) sum d_li, with `low`, `high` and
        `paper_se`; `over_prompts`, the same with an interval for these LLMs alone; `mean_over_llms`;
        `length_controlled_difference`; `win_rate` (ties half), `wins`, `ties`, `losses`; `wins_in_both`,
        `losses_in_both` (None where one order was asked for); `length_controlled_win_rate`; `one_order`, the
        difference each order alone would give; `scores` and `words`, means; `thirds_by_prompt`, `thirds_by_answer`.
    """
    arrays = {name: pairs[name].to_numpy() for name in ("question_id", "llm", "difference", "chars_model")}
    d, llms, prompts = arrays["difference"], arrays["llm"], arrays["question_id"]
    both, over_prompts = (Resampling(prompts, llms, draw_llms, draws, seed) for draw_llms in (True, False))
    winner = pairs["winner"]
    points = winner.replace_strict(_POINTS, return_dtype=pl.Float64).to_numpy()
    x = length_term(arrays["chars_model"], pairs["chars_baseline"].to_numpy())
    whole = np.ones((1, len(d)))
    controlled = length_controlled_mean(whole, d, x)[0]
    logit = length_controlled_logit(whole, points, x)[0]
    rate = both.interval(logit, length_controlled_logit(both.weights, points, x))
    numbers = {
        "n": len(d),
        "llms": len(np.unique(llms)),
        "prompts": len(np.unique(prompts)),
        "difference": {**both.mean(d), "paper_se": paper_standard_error(d)},
        "over_prompts": over_prompts.mean(d),
        "mean_over_llms": both.mean_over_llms(d),
        "length_controlled_difference": both.interval(controlled, length_controlled_mean(both.weights, d, x)),
        "win_rate": both.share(points),
        **{name: _share(winner, side) for name, side in _SHARES.items()},
        **{f"{name}_in_both": _share(pairs["winner_in_both"], _SHARES[name]) for name in ("wins", "losses")},
        "length_controlled_win_rate": {key: float(expit(value)) for key, value in rate.items()},
        "one_order": {order: pairs[f"difference_{order}"].mean() for order in ("model_first", "baseline_first")},
        "scores": {side: pairs[f"score_{side}"].mean() for side in ("model", "baseline")},
        "words": {side: pairs[f"words_{side}"].mean() for side in ("model", "baseline", "prompt")},
        "thirds_by_prompt": _by_third(pairs, thirds_by_prompt(pairs), draws, seed),
        "thirds_by_answer": _by_third(pairs, thirds_by_answer(pairs), draws, seed),
    }
    return cast(Summary, numbers)  # NaN is not yet None; `compare` sees to that


def thirds_by_prompt(pairs: pl.DataFrame) -> np.ndarray:
    """(n,) 0, 1 or 2: the third of its prompt, by words, then code points, then id; every prompt counts once.

    Nothing that was done to the models changes the length of a prompt: the three groups compare like with like.
    """
    prompts = pairs.select("question_id", "words_prompt", "chars_prompt").unique("question_id")
    ranked = prompts.sort("words_prompt", "chars_prompt", "question_id").with_row_index("rank")
    thirds = ranked.select("question_id", third=pl.col("rank") * 3 // prompts.height)
    return pairs.join(thirds, on="question_id", how="left", maintain_order="left")["third"].to_numpy()


def thirds_by_answer(pairs: pl.DataFrame) -> np.ndarray:
    """(n,) 0, 1 or 2: the paper's split, by the words of the aligned model's answer within each LLM.

    That conditions on something alignment itself changes (post-treatment): a model that writes longer where it does
    better moves its good answers to the long third. It is here to compare with the paper.
    """
    rank = pl.struct("words_model", "question_id").rank("ordinal").over("llm") - 1
    return pairs.select((rank * 3 // pl.len().over("llm")).alias("third"))["third"].to_numpy()


def _by_third(pairs: pl.DataFrame, thirds: np.ndarray, draws: int, seed: int) -> list[dict[str, Any]]:
    parts = [(name, pairs.filter(pl.Series(thirds == place))) for place, name in enumerate(THIRDS)]
    return [
        {
            "third": name,
            "n": part.height,
            "words_prompt": part["words_prompt"].mean(),
            "words_model": part["words_model"].mean(),
            **Resampling(part["question_id"].to_numpy(), part["llm"].to_numpy(), True, draws, seed).mean(
                part["difference"].to_numpy()
            ),
        }
        for name, part in parts
        if part.height
    ]


def contrast(pairs: pl.DataFrame, first: str, second: str, draws: int = BOOTSTRAPS, seed: int = SEED) -> Contrast:
    """How much better models do on the labels of one source than on those of another: the difference of their d.

    Only pairs of LLM and prompt that both have count. They share the baseline's answer, the prompt and the judge.

    Returns:
        `first`, `second`, `n`, `llms`, and `mean`, `low`, `high`, which are missing where nothing is shared.
    """
    keys = ["llm", "question_id"]
    one, other = (
        pairs.filter(pl.col("label_source") == source).select(*keys, "difference") for source in (first, second)
    )
    shared = one.join(other, on=keys, suffix="_other").sort(keys)
    named: dict[str, Any] = {"first": first, "second": second, "n": shared.height, "llms": shared["llm"].n_unique()}
    if not shared.height:
        return cast(Contrast, named)
    resampling = Resampling(shared["question_id"].to_numpy(), shared["llm"].to_numpy(), True, draws, seed)
    return cast(Contrast, named | resampling.mean((shared["difference"] - shared["difference_other"]).to_numpy()))


def _share(winners: pl.Series, side: str) -> float | None:
    known = winners.drop_nulls()
    return int((known == side).sum()) / len(known) if len(known) else None


def _times_drawn(clusters: int, generator: np.random.Generator, draws: int) -> np.ndarray:
    """(draws, clusters) how often each cluster was drawn, in as many draws with replacement as there are clusters."""
    return generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws).astype(float)
