"""Generations to judge, and permission to ask a server on loopback."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.evaluation.tables import GENERATIONS, write_table


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`huggingface_hub` in this process may send requests; tests give it a loopback address."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield
    close_session()


def write_answers(file: Path, model: str, answers: list[str], settings: str = "{}") -> Path:
    """A table of answers to made-up questions 1, 2, ... of four workers."""
    rows = [
        {
            "question_id": number,
            "worker_id": f"worker_{number % 4}",
            "messages": [{"role": "user", "content": f"Question {number}?"}],
            "model": model,
            "model_revision": f"revision of {model}",
            "settings": settings,
            "answer": answer,
            "finish_reason": "stop",
            "prompt_tokens": 5,
            "answer_tokens": 7,
        }
        for number, answer in enumerate(answers, start=1)
    ]
    write_table(file, pl.DataFrame(rows, schema=GENERATIONS))
    return file
