"""A judge whose faults are known: judgements of made-up answers, to see what the estimators make of them.

For LLM l and prompt i the true difference of quality is q_li = effect + a_l + b_i + c_li, in points of the judge's
scale. In each order the judge adds its favour for the answer shown first and for the longer one, and noise, rounds both
scores, and keeps them between 1 and 10.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from ifllm_hub.evaluation.differences import HIGHEST, LOWEST, ORDERS
from ifllm_hub.evaluation.statistics import length_term
from ifllm_hub.evaluation.tables import JUDGEMENTS

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
        failing: share of judgements that come back malformed.
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


def simulated_judgements(
    judge: SimulatedJudge, llms: list[str], prompts: int, seed: int, label_source: str = "forest"
) -> pl.DataFrame:
    """Judgements of one label source, both orders, with the columns of `JUDGEMENTS`.

    Every LLM answers every prompt. Answers are filler words of the right number.
    """
    generator = np.random.default_rng(seed)
    shape = (len(llms), prompts)
    quality = (
        judge.effect
        + generator.normal(0, judge.llm_sd, (len(llms), 1))
        + generator.normal(0, judge.prompt_sd, (1, prompts))
        + generator.normal(0, judge.rest_sd, shape)
    )
    words_baseline = generator.integers(60, 140, shape)
    words_model = np.maximum(words_baseline + np.round(generator.normal(20 * judge.longer, 20, shape)).astype(int), 1)
    words_prompt = generator.integers(4, 40, prompts)
    favour = judge.length_bias * length_term(words_model.ravel(), words_baseline.ravel()).reshape(shape)
    level = generator.normal(5.5, 0.8, (1, prompts))
    columns: dict[str, list] = {name: [] for name in ("llm", "question_id", "order", "score_model", "score_baseline")}
    for order, sign in zip(ORDERS, (1, -1), strict=True):
        half = (quality + favour + sign * judge.position_bias) / 2
        columns["llm"] += np.repeat(llms, prompts).tolist()
        columns["question_id"] += list(range(prompts)) * len(llms)
        columns["order"] += [order] * quality.size
        for name, part in (("score_model", half), ("score_baseline", -half)):
            latent = level + part + generator.normal(0, judge.noise, shape)
            columns[name] += np.clip(np.round(latent), LOWEST, HIGHEST).ravel().tolist()
    table = pl.DataFrame(columns)
    texts = {
        "answer_model": _texts(words_model.ravel()) * 2,
        "answer_baseline": _texts(words_baseline.ravel()) * 2,
        "messages": [[{"role": "user", "content": text}] for text in _texts(words_prompt) * (2 * len(llms))],
    }
    failed = generator.random(table.height) < judge.failing
    return _as_judgements(
        table.with_columns(**{name: pl.Series(text) for name, text in texts.items()}), failed, label_source
    )


def asked_once(judgements: pl.DataFrame, baseline_first: float, seed: int) -> pl.DataFrame:
    """What the paper's protocol keeps of both orders: one a prompt by the flip of a coin, the same for all LLMs.

    Args:
        baseline_first: probability of the order `baseline_first`; 0.44 in the paper's larger pass.
    """
    questions = judgements["question_id"].unique().sort()
    flips = np.random.default_rng(seed).random(len(questions)) < baseline_first
    chosen = pl.DataFrame({"question_id": questions, "order": [ORDERS[int(flip)] for flip in flips]})
    return judgements.join(chosen, on=["question_id", "order"], maintain_order="left").with_columns(
        preset=pl.lit("reference")
    )


def _as_judgements(table: pl.DataFrame, failed: np.ndarray, label_source: str) -> pl.DataFrame:
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
        judgement_id=pl.Series(ids),
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
    ).select(pl.col(name).cast(type_) for name, type_ in JUDGEMENTS.items())


def _texts(words: np.ndarray) -> list[str]:
    return [" ".join(["word"] * int(count)) for count in words]
