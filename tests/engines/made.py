"""Datasets of many people, from a small one: the same readings with new ids, laid out in ways of their own."""

from pathlib import Path

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.partition import partition_dataset

TIMES = 5


def replicated(dataset: Path, config: str, times: int = TIMES) -> pl.DataFrame:
    """Each person's readings so many times, as of others."""
    rows = load_config(dataset, config)
    return pl.concat(
        rows.with_columns(pl.col("question_id") + number * 1_000_000, pl.col("worker_id") + f"-{number}")
        for number in range(times)
    )


def lake(dataset: Path, out: Path, config: str = "trajectories", files: int = 3) -> Path:
    """Parquet files of no order at all, in which every person's rows are everywhere."""
    rows = replicated(dataset, config).sample(fraction=1, shuffle=True, seed=5)
    out.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        rows.gather_every(files, number).write_parquet(out / f"part {number}.parquet")
    return out


def by_person(dataset: Path, out: Path, shards: int, config: str = "trajectories") -> Path:
    """A dataset of one config, in so many shards."""
    partition_dataset(lake(dataset, out / "lake" / "data" / config, config).parents[1], out / "dataset", shards)
    return out / "dataset"


def scores(folder: Path) -> pl.DataFrame:
    """All that a run wrote, by question, read without the package."""
    files = sorted((folder / "data/scores").glob("*.parquet"))
    parts = [pl.read_parquet(file).with_columns(split=pl.lit(file.name.split("-")[0])) for file in files]
    return pl.concat(parts).sort("question_id")
