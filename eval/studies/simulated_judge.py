"""A judge whose faults are known: judgments of made-up answers, to see what the estimators make of them.

For LLM l and prompt i the true difference of quality is q_li = effect + a_l + b_i + c_li, in points of the judge's
scale. In each order the judge adds its favor for the answer shown first and for the longer one, and noise, rounds both
scores, and keeps them between 1 and 10.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from ifllm_hub.evaluation.comparison.differences import HIGHEST, LOWEST
from ifllm_hub.evaluation.comparison.statistics import length_term
from ifllm_hub.evaluation.tables import JUDGMENTS
from ifllm_hub.terms import ORDERS

_ASKED_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class SimulatedJudge:
    """What is true, and what the judge makes of it; all in points of its scale unless said otherwise.

    Attributes:
        effect: mean of q over LLMs and prompts.
        llm_sd, prompt_sd, rest_sd: standard deviations of a, b and c.
        position_bias: what it gives to the answer shown first, in the difference of both.
        length_bias: what it gives per unit of the length term tanh(D / sd(D)), in the difference of both.
        longer: how many standard deviations of D the aligned model's answers are longer on average.
        noise: standard deviation of each score, drawn anew in each order.
        failing: share of judgments that come back malformed.
    """

    effect: float = 0.35
    llm_sd: float = 0.1
    prompt_sd: float = 0.3
    rest_sd: float = 0.5
    position_bias: float = 0.0
    length_bias: float = 0.0
    longer: float = 0.4
    noise: float = 0.7
    failing: float = 0.0


@dataclass(frozen=True)
class Scores:
    """Made-up answers and what the judge gave them.

    Attributes:
        words: `model` and `baseline`: (llms, prompts) length of each answer; `prompt`: (prompts,).
        model, baseline: (2, llms, prompts) scores in the orders of `ORDERS`.
    """

    words: dict[str, np.ndarray]
    model: np.ndarray
    baseline: np.ndarray


def simulated_scores(judge: SimulatedJudge, llms: int, prompts: int, generator: np.random.Generator) -> Scores:
    """Every LLM answers every prompt, and is judged in both orders."""
    shape = (llms, prompts)
    quality = (
        judge.effect
        + generator.normal(0, judge.llm_sd, (llms, 1))
        + generator.normal(0, judge.prompt_sd, (1, prompts))
        + generator.normal(0, judge.rest_sd, shape)
    )
    baseline = generator.integers(60, 140, shape)
    model = np.maximum(baseline + np.round(generator.normal(20 * judge.longer, 20, shape)).astype(int), 1)
    # A word of the filler and its space are five code points.
    favor = judge.length_bias * length_term(5 * model.ravel(), 5 * baseline.ravel()).reshape(shape)
    level = generator.normal(5.5, 0.8, (1, prompts))
    half = np.stack([quality + favor + sign * judge.position_bias for sign in (1, -1)]) / 2
    scores = (level + part + generator.normal(0, judge.noise, half.shape) for part in (half, -half))
    rounded = [np.clip(np.round(score), LOWEST, HIGHEST) for score in scores]
    words = {"model": model, "baseline": baseline, "prompt": generator.integers(4, 40, prompts)}
    return Scores(words, *rounded)


def simulated_judgments(
    judge: SimulatedJudge, llms: list[str], prompts: int, seed: int, label_source: str = "forest"
) -> pl.DataFrame:
    """Judgments of one label source, both orders, with the columns of `JUDGMENTS`; answers are filler words."""
    generator = np.random.default_rng(seed)
    scores = simulated_scores(judge, len(llms), prompts, generator)
    texts = {name: [" ".join(["word"] * int(count)) for count in words.flat] for name, words in scores.words.items()}
    table = pl.DataFrame(
        {
            "llm": np.repeat(llms, prompts).tolist() * 2,
            "question_id": list(range(prompts)) * (2 * len(llms)),
            "order": np.repeat(ORDERS, len(llms) * prompts).tolist(),
            "score_model": scores.model.ravel(),
            "score_baseline": scores.baseline.ravel(),
            "answer_model": texts["model"] * 2,
            "answer_baseline": texts["baseline"] * 2,
            "messages": [[{"role": "user", "content": text}] for text in texts["prompt"]] * (2 * len(llms)),
        }
    )
    return _as_judgments(table, generator.random(table.height) < judge.failing, label_source)


def asked_once(judgments: pl.DataFrame, baseline_first: float, seed: int) -> pl.DataFrame:
    """What the paper's protocol keeps of both orders: one a prompt by the flip of a coin, the same for all LLMs.

    Args:
        baseline_first: probability of the order `baseline_first`; 0.44 in the paper's larger pass.
    """
    questions = judgments["question_id"].unique().sort()
    flips = np.random.default_rng(seed).random(len(questions)) < baseline_first
    chosen = pl.DataFrame({"question_id": questions, "order": [ORDERS[int(flip)] for flip in flips]})
    return judgments.join(chosen, on=["question_id", "order"], maintain_order="left").with_columns(
        preset=pl.lit("reference")
    )


def _as_judgments(table: pl.DataFrame, failed: np.ndarray, label_source: str) -> pl.DataFrame:
    ok = ~pl.Series(failed)
    difference = pl.col("score_model") - pl.col("score_baseline")
    winner = pl.when(difference > 0).then(pl.lit("model")).when(difference < 0).then(pl.lit("baseline"))
    ids = [
        hashlib.sha256(json.dumps([label_source, *row]).encode()).hexdigest()
        for row in table.select("llm", "question_id", "order").iter_rows()
    ]
    scores = table.with_columns(winner=winner.otherwise(pl.lit("tie"))).select(
        pl.when(ok).then(pl.col(name)) for name in ("score_model", "score_baseline", "winner")
    )
    return table.with_columns(
        scores,
        judgment_id=pl.Series(ids),
        mode=pl.lit("pairwise"),
        preset=pl.lit("corrected"),
        judge=pl.lit("simulated"),
        judge_settings=pl.lit("{}"),
        label_source=pl.lit(label_source),
        worker_id=pl.format("w{}", pl.col("question_id") % 7),
        model=pl.format("{}-" + label_source, "llm"),
        model_revision=pl.lit("0" * 40),
        baseline=pl.format("{}-sft", "llm"),
        baseline_revision=pl.lit("1" * 40),
        status=pl.when(ok).then(pl.lit("ok")).otherwise(pl.lit("malformed")),
        explanation=pl.when(ok).then(pl.lit("Simulated.")),
        raw=pl.lit("simulated"),
        error=pl.when(~ok).then(pl.lit("no scores")),
        attempts=pl.lit(1),
        prompt_tokens=pl.lit(None),
        answer_tokens=pl.lit(None),
        asked_at=pl.lit(_ASKED_AT),
    ).select(pl.col(name).cast(type_) for name, type_ in JUDGMENTS.items())
