"""Measures of a judge against hand counts."""

import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import t

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.judge.quality import (
    clustered_mean,
    family,
    judge_quality,
    quality_markdown,
    read_quality,
    write_quality,
)
from ifllm_hub.evaluation.tables import JUDGMENTS
from ifllm_hub.statistics import degrees_of_freedom

SETTINGS = '{"prompt": "pairwise-1", "temperature": 0.0}'


SCORES = {"model": (8.0, 4.0), "baseline": (4.0, 8.0), "tie": (6.0, 6.0), None: (None, None)}


def judged(question: int, order: str, winner: str | None, status: str = "ok", **more: Any) -> dict[str, Any]:
    return {
        "judgment_id": f"{question} {order}",
        "mode": "pairwise",
        "preset": "corrected",
        "score_model": SCORES[winner][0],
        "score_baseline": SCORES[winner][1],
        "judge": "openai/gpt-4o-mini",
        "judge_settings": SETTINGS,
        "llm": "ifllm",
        "label_source": "human",
        "question_id": question,
        "worker_id": f"worker_{question % 3}",
        "model": "gpt-4o-mini",
        "baseline": "claude-sonnet-4-5",
        "order": order,
        "status": status,
        "winner": winner,
    } | more


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{name: row.get(name) for name in JUDGMENTS} for row in rows], schema=JUDGMENTS)


@pytest.fixture
def judgments() -> pl.DataFrame:
    return table(
        [
            judged(1, "model_first", "model"),
            judged(1, "baseline_first", "model"),  # holds to it
            judged(2, "model_first", "model"),
            judged(2, "baseline_first", "baseline"),  # always the first
            judged(3, "model_first", "tie"),
            judged(3, "baseline_first", "tie"),
            judged(4, "model_first", "baseline"),
            judged(4, "baseline_first", None, "malformed"),
            judged(5, "model_first", None, "refused"),
            judged(5, "baseline_first", None, "truncated"),
        ]
    )


def test_measures_by_hand(judgments: pl.DataFrame) -> None:
    preferences = pl.DataFrame(
        {"question_id": [1, 2, 3, 4, 5, 6], "preference": ["left", "right", "left", "left", "left", None]}
    )
    (quality,) = judge_quality(judgments, preferences)
    assert quality["judgments"] == 10
    assert quality["pairs"] == {"asked": 5, "decided": 1, "tied": 2, "set_aside": 2}  # question 2's scores cancel
    assert [quality[name] for name in ("malformed", "refused", "truncated", "failed")] == [0.1, 0.1, 0.1, 0]
    assert quality["position_consistency"]["mean"] == pytest.approx(2 / 3)
    assert quality["position_consistency"]["n"] == 3
    # Decided: model first/model, baseline first/model, first, first, and model first/baseline.
    assert quality["first_position"]["mean"] == pytest.approx(3 / 5)
    assert quality["tie"]["mean"] == pytest.approx(2 / 7)
    # Question 1: both right; 2: one right; 3: halves; 4: wrong.
    assert quality["agreement"]["mean"] == pytest.approx((2 + 1 + 1 + 0) / 7)
    # The judge is a GPT, and the model's answers are a GPT's: judge 2 + 1 + 1 + 0 of 7, people 2 + 0 + 2 + 1.
    assert quality["self_preference"]["mean"] == pytest.approx(4 / 7 - 5 / 7)


def test_nothing_to_measure_is_not_a_number(judgments: pl.DataFrame) -> None:
    (quality,) = judge_quality(judgments.filter(pl.col("order") == "model_first"))
    assert quality["position_consistency"]["n"] == quality["agreement"]["n"] == 0
    assert np.isnan(quality["agreement"]["mean"])
    (other,) = judge_quality(judgments.filter(pl.col("status") != "ok"))
    assert np.isnan(other["tie"]["mean"])
    assert "| agreement with people | - |" in quality_markdown([quality])


def test_a_file_of_something_else_is_refused(judgments: pl.DataFrame, tmp_path: Path) -> None:
    path = write_quality(tmp_path / "j.parquet", judge_quality(judgments))
    (read,) = read_quality(path)
    assert read["pairs"] == {"asked": 5, "decided": 1, "tied": 2, "set_aside": 2}
    for content in (path.read_text().replace('"pairs"', '"of_pairs"'), "[1]", '["a"]'):
        path.write_text(content)
        with pytest.raises(IfllmError, match="not written by this version"):
            read_quality(path)


def test_one_answer_alone_is_no_pair() -> None:
    rows = [judged(1, "model_first", None, mode="single", score_model=7.0)]
    (quality,) = judge_quality(table(rows))
    assert quality["pairs"] == {"asked": 0, "decided": 0, "tied": 0, "set_aside": 0}
    assert quality["judgments"] == 1


def test_judges_side_by_side(judgments: pl.DataFrame) -> None:
    second = judgments.with_columns(judge=pl.lit("other/judge"), judgment_id="other " + pl.col("judgment_id"))
    markdown = quality_markdown(judge_quality(pl.concat([judgments, second])))
    lines = markdown.splitlines()
    assert lines[0] == "| share [95 % CI over workers] | openai/gpt-4o-mini, pairwise-1 | other/judge, pairwise-1 |"
    assert {line.count("|") for line in lines} == {4}
    # "judge" is of no family in the data.
    assert judge_quality(second)[0]["self_preference"]["n"] == 0


def test_pairs_of_the_same_question_are_told_apart_by_their_models() -> None:
    rows = [
        judged(1, order, winner, label_source=source, model=source)
        for source, winner in (("forest", "model"), ("explicit", "baseline"))
        for order in ("model_first", "baseline_first")
    ]
    (quality,) = judge_quality(table(rows))
    # One worker says nothing of others.
    alone = {"mean": 1.0, "low": pytest.approx(np.nan, nan_ok=True), "high": pytest.approx(np.nan, nan_ok=True), "n": 2}
    assert quality["position_consistency"] == alone


def test_intervals_are_over_workers() -> None:
    generator = random.Random(0)
    workers = [f"w{generator.randrange(12)}" for _ in range(200)]
    values = [float(generator.random() < 0.3 + 0.05 * int(worker[1:])) for worker in workers]
    fast = clustered_mean(pl.Series(values), pl.Series(workers))
    by_worker = {name: [v for v, w in zip(values, workers, strict=True) if w == name] for name in set(workers)}
    mean = sum(values) / 200
    without = [(sum(values) - sum(own)) / (200 - len(own)) for own in by_worker.values()]
    error = math.sqrt(sum((one - mean) ** 2 for one in without) * (len(without) - 1) / len(without))
    half = error * t.isf(0.025, degrees_of_freedom(np.array(values), np.array(workers)))
    assert fast["mean"] == pytest.approx(mean)
    assert fast["low"] == pytest.approx(mean - half)
    assert fast["high"] == pytest.approx(mean + half)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai/gpt-4.1-mini", "gpt"),
        ("gpt-4o-mini", "gpt"),
        ("claude-sonnet-4-5-20250929", "claude"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "llama"),
        ("meta-llama/Meta-Llama-3.1-8B", "llama"),
        ("deepseek-ai/DeepSeek-V3", "deepseek"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "smollm"),
        ("42", "42"),
    ],
)
def test_families(name: str, expected: str) -> None:
    assert family(name) == expected
