"""Parts of a dataset folder and its card, and pairs to add to it."""

from pathlib import Path
from typing import Any

import polars as pl
import yaml


def split_card(folder: Path) -> tuple[dict[str, Any], str]:
    _, head, body = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), body


def parquet(folder: Path, config: str, split: str) -> Path:
    return folder / f"data/{config}/{split}-00000-of-00001.parquet"


def preferences(source: Path, n: int) -> pl.DataFrame:
    pairs = pl.read_parquet(parquet(source, "pairwise", "train")).head(n)
    chat = [{"role": "assistant", "content": "x"}]
    return pairs.select(
        "question_id",
        "worker_id",
        label_source=pl.lit("forest"),
        prompt="messages_left",
        history=pl.lit("none"),
        instruction=pl.lit(None, pl.String),
        chosen=pl.lit(chat, dtype=pairs.schema["messages_left"]),
        rejected=pl.lit(chat, dtype=pairs.schema["messages_left"]),
        flip_prob=pl.lit(0.25),
        rating_chosen="rating_left",
        rating_rejected="rating_right",
        split=pl.lit("train"),
    )
