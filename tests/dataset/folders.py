"""Dataset folders as bytes and rows, read without the package."""

from pathlib import Path

import polars as pl

from ifllm_hub.dataset.schema import SPLITS


def rows(folder: Path, config: str) -> pl.DataFrame:
    parts = [pl.read_parquet(folder / f"data/{config}/{split}-00000-of-00001.parquet") for split in SPLITS]
    return pl.concat([part.with_columns(split=pl.lit(split)) for part, split in zip(parts, SPLITS, strict=True)])


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
