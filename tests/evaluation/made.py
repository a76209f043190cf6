"""Judgments made by hand, a row at a time, and files of generations."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.evaluation.tables import GENERATIONS, JUDGMENTS, write_table


def judgment(
    question: int, order: str, model: float | None, baseline: float | None, /, **changes: Any
) -> dict[str, Any]:
    """A row of `JUDGMENTS`; the word of the winner follows from the scores, and `changes` come last."""
    ok = model is not None and baseline is not None
    row: dict[str, Any] = {
        "mode": "pairwise",
        "preset": "corrected",
        "judge": "lab/judge",
        "judge_settings": '{"temperature": 0}',
        "llm": "a",
        "label_source": "forest",
        "question_id": question,
        "worker_id": "w1",
        "messages": [{"role": "user", "content": f"Question {question}?"}],
        "model": "a-forest",
        "model_revision": "r1",
        "answer_model": "An answer of five words.",
        "baseline": "a-sft",
        "baseline_revision": "r0",
        "answer_baseline": "Another.",
        "order": order,
        "status": "ok" if ok else "malformed",
        "score_model": model,
        "score_baseline": baseline,
        "winner": None if not ok else "tie" if model == baseline else "model" if model > baseline else "baseline",
        "explanation": "Because." if ok else None,
        "raw": "raw",
        "error": None if ok else "no scores",
        "attempts": 1,
        "prompt_tokens": 10,
        "answer_tokens": 5,
        "asked_at": datetime(2026, 11, 1, tzinfo=UTC),
        **changes,
    }
    shown = [row[name] for name in ("llm", "label_source", "question_id", "order", "answer_model", "answer_baseline")]
    return {"judgment_id": hashlib.sha256(json.dumps([*shown, row["judge"]]).encode()).hexdigest()} | row


def both(
    question: int, first: tuple[float, float], second: tuple[float, float], **changes: Any
) -> list[dict[str, Any]]:
    """Both orders of a pair: (score of the model, score of the baseline) with the model first, then second."""
    return [
        judgment(question, order, *scores, **changes)
        for order, scores in (("model_first", first), ("baseline_first", second))
    ]


def table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=JUDGMENTS)


def write_generations(file: Path, model: str, answers: dict[int, str], conversation: str = "What is it?") -> Path:
    """One answer a question, by question id; each was asked `conversation` and its number."""
    rows = [
        {
            "question_id": question,
            "worker_id": f"w{question % 2}",
            "messages": [{"role": "user", "content": f"{conversation} ({question})"}],
            "model": model,
            "model_revision": f"{model}-revision",
            "settings": "{}",
            "answer": answer,
            "finish_reason": "stop",
            "prompt_tokens": 5,
            "answer_tokens": len(answer.split()),
        }
        for question, answer in answers.items()
    ]
    write_table(file, pl.DataFrame(rows, schema_overrides=GENERATIONS).select(*GENERATIONS))
    return file
