"""Files of generations, made up for a test."""

from pathlib import Path

import polars as pl

from ifllm_hub.evaluation.tables import GENERATIONS, write_table


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
