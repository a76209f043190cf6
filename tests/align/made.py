"""Rows of the configs `pairwise` and `pointwise` by hand, in a folder laid out as the Hub repo."""

from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.dataset.schema import arrow_schema, parquet_path


def write_config(folder: Path, config: str, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> None:
    """Both splits of a config; columns that a row does not have are null."""
    empty = pl.DataFrame(pl.from_arrow(arrow_schema(config).empty_table()))
    for split, rows in (("train", train), ("test", test)):
        path = parquet_path(folder, config, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows, schema_overrides=dict(empty.schema)).select(
            pl.col(name) if name in {key for row in rows for key in row} else pl.lit(None, dtype=type_).alias(name)
            for name, type_ in empty.schema.items()
        ).write_parquet(path)


def said(role: str, *contents: str) -> list[dict[str, str]]:
    """Messages: of `user` and `assistant` in turn, beginning with `role`."""
    roles = ["user", "assistant"] if role == "user" else ["assistant", "user"]
    return [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
