"""How long all features take, from the trajectories of a built dataset.

make bench                                # on a simulated release
IFLLM_DATASET=runs/dataset make bench     # a folder made by `ifllm build`
"""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.layout import parquet_path
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.features.catalog import CATALOG
from ifllm_hub.features.extract import extract_features
from ifllm_hub.files import read_json
from ifllm_hub.sources.ifllm.archive import open_release
from ifllm_hub.sources.simulation.simulate import simulate_release

REPEATS = 7
# CPU seconds of the reference implementation's feature stages on the released data, measured once (two cores, quiet).
REFERENCE_CPU_S = 307


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Path(os.environ.get("IFLLM_DATASET") or simulated(Path(scratch)))
        trajectories = read(dataset)
        reading, _ = best(lambda: read(dataset))
        extracting, _ = best(lambda: extract_features(trajectories))
        both, cpu = best(lambda: extract_features(read(dataset)))
        released = read_json(dataset / "manifest.json")["is_the_released_data"]
    ticks = trajectories["t"].list.len().sum()
    title = f"{len(CATALOG)} features of {trajectories.height:,} questions with {ticks:,} ticks, best of {REPEATS}"
    table = Table("measured", "", title=title)
    table.add_row("read the trajectories from Parquet", f"{reading:.2f} s")
    table.add_row("extract", f"{extracting:.2f} s, {ticks / extracting:,.0f} ticks/s")
    table.add_row(
        "read and extract", f"{both:.2f} s, {cpu:.2f} s of CPU, {trajectories.height / both:,.0f} questions/s"
    )
    if released:
        table.add_row(f"the reference ({REFERENCE_CPU_S} s of CPU) / ours", f"{REFERENCE_CPU_S / cpu:.0f}")
    Console(width=100).print(table)


def simulated(folder: Path) -> Path:
    simulate_release(folder / "simulated")
    build_dataset(open_release(folder / "simulated"), folder / "dataset")
    return folder / "dataset"


def read(dataset: Path) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(parquet_path(dataset, "trajectories", split)) for split in SPLITS])


def best(work: Callable[[], object]) -> tuple[float, float]:
    """Wall-clock and CPU seconds of the fastest of some repeats; the first call does not count."""
    work()
    took = []
    for _ in range(REPEATS):
        started, spent = time.perf_counter(), time.process_time()
        work()
        took.append((time.perf_counter() - started, time.process_time() - spent))
    return min(took)


if __name__ == "__main__":
    main()
