"""Rows of configs by hand, in a folder laid out as the Hub repo."""

from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.dataset.layout import parquet_path
from ifllm_hub.dataset.schema import arrow_schema, preferences_config


def write_config(folder: Path, config: str, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
    """Both splits of a config; columns that a row does not have are null, but for ids, folds and texts of questions."""
    empty = pl.DataFrame(pl.from_arrow(arrow_schema(config).empty_table()))
    for split, rows in (("train", train), ("test", test)):
        path = parquet_path(folder, config, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        given = pl.DataFrame(rows, schema_overrides=dict(empty.schema))
        whole = pl.concat([empty, given], how="diagonal").select(empty.columns)
        if "conversation_id" in whole.columns:
            ids = {"worker_id": "somebody", "conversation_id": pl.format("somebody/{}", "question_id")}
            folds = {f"fold_{group}": 0 for group in ("question", "conversation", "worker")}
            texts = {
                name: "" for name in ("query", "response_left", "response_right", "response") if name in whole.columns
            }
            filled = {**ids, **folds, **texts}
            whole = whole.with_columns(pl.col(name).fill_null(value) for name, value in filled.items())
        whole.write_parquet(path)


def write_pairs(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
    """The pairs of each label source, in its own config."""
    for source in {row["label_source"] for row in (*train, *test)}:
        parts = ([row for row in rows if row["label_source"] == source] for rows in (train, test))
        write_config(folder, preferences_config(source), *parts)


def said(role: str, *contents: str) -> list[dict[str, str]]:
    """Messages: of `user` and `assistant` in turn, beginning with `role`."""
    roles = ["user", "assistant"] if role == "user" else ["assistant", "user"]
    return [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
