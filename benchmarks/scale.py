"""What a reading costs, and how much memory a worker needs, as readings become more.

python -m benchmarks.scale                                                           # ten minutes of a core
python -m benchmarks.scale --database postgresql+psycopg://user@host/an_empty_one    # and PostgreSQL
make bench                                                                           # small

The readings of `benchmarks.chat` are scored from trajectories, as by `ifllm score`, and exported as by `ifllm collect
export`. Each size is measured in processes of its own, a task in its worker itself: CPU seconds and peak memory, which
hardly depend on what else runs. What a process does once (imports, the model) is no part of its CPU time.
Fails if more readings need more memory, or more CPU time each, or if an export costs more than it may.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import polars as pl
import ray
from rich.console import Console
from rich.table import Table

from benchmarks import chat
from benchmarks.chat import KEY, READINGS, TICKS, fill, make_dataset
from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store
from ifllm_hub.dataset.layout import Shard
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.engines.places import files_in
from ifllm_hub.engines.run import Engine, run_shards
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward
from ifllm_hub.reward.scoring import BATCH_TICKS, Scoring, score_shard

Result = TypeVar("Result")

# The most by which the largest size may exceed the smallest, and what the export of a reading may cost.
GROWTH = 1.15
EXPORT_MS = 1.8


@dataclass(frozen=True)
class Cost:
    """Of some readings: CPU seconds of all tasks, and the peak memory of the largest process that had one."""

    way: str
    readings: int
    shards: int
    cpu: float
    peak_mb: float

    @property
    def each_ms(self) -> float:
        return 1_000 * self.cpu / self.readings


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--score", type=int, nargs="*", default=[25_000, 100_000, 400_000], help="readings")
    parser.add_argument("--export", type=int, nargs="*", default=[20_000, 80_000], help="readings")
    parser.add_argument("--of-a-shard", type=int, default=25_000, help="readings")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="of Ray")
    parser.add_argument("--database", help="URL of an empty database of PostgreSQL, which is filled")
    options = parser.parse_args()
    costs: list[Cost] = []
    progress = Console(stderr=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for readings in options.score:
            dataset = folder / str(readings)
            alone(partial(make_dataset, dataset, readings, number_of_shards(readings, options.of_a_shard)))
            for workers in (0, *options.workers):
                costs.append(alone(partial(score, dataset, folder / f"{readings}-{workers}", workers)))
                progress.print(costs[-1])
        databases = {"SQLite": f"sqlite:///{folder / 'store.db'}"}
        if options.database:
            databases["PostgreSQL"] = options.database
        for name, url in databases.items():
            for before, readings in zip([0, *options.export], options.export, strict=False):
                alone(partial(fill, url, range(before // READINGS, readings // READINGS)))
                out, shards = folder / f"export-{name}-{readings}", number_of_shards(readings, options.of_a_shard)
                costs.append(alone(partial(export, f"export, {name}", url, out, shards)))
                progress.print(costs[-1])
    table = Table("", "readings", "shards", "CPU ms a reading", "CPU s a million", "peak memory", title="Costs")
    for cost in costs:
        memory = f"{cost.peak_mb:,.0f} MB"
        numbers = f"{cost.readings:,}", f"{cost.shards}", f"{cost.each_ms:.3f}", f"{1_000 * cost.each_ms:,.0f}", memory
        table.add_row(cost.way, *numbers)
    table.caption = f"{TICKS} ticks a reading; Polars with {pl.thread_pool_size()} threads in one process, 1 on Ray"
    Console(width=100).print(table)
    if found := faults(costs):
        raise SystemExit("\n".join(found))


def faults(costs: Sequence[Cost]) -> list[str]:
    """What must not be, in words."""
    found = []
    for way in dict.fromkeys(cost.way for cost in costs):
        ours = [cost for cost in costs if cost.way == way]
        grown = {"the memory": ours[-1].peak_mb / ours[0].peak_mb}
        if way.startswith("score"):
            grown["the CPU time of a reading"] = ours[-1].each_ms / ours[0].each_ms
        elif (most := max(cost.each_ms for cost in ours)) > EXPORT_MS:
            found.append(f"{way}: {most:.2f} ms of CPU a reading, more than {EXPORT_MS}.")
        found += [f"{way}: {what} grew by {by - 1:.0%}." for what, by in grown.items() if by > GROWTH]
    return found


def alone(work: Callable[[], Result]) -> Result:
    """Do it in a new process. This one stays small, because a process's peak begins with that of its parent."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result()


def peak_mb() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def number_of_shards(readings: int, of_a_shard: int) -> int:
    return max(1, round(readings / of_a_shard))


def score(dataset: Path, out: Path, workers: int) -> Cost:
    """Score a dataset in this process (0 workers), or on a Ray of so many."""
    run, shards = scoring(dataset, out)
    engine: Engine = "ray" if workers else "local"
    if workers:
        for module in (sys.modules[__name__], chat):  # which Ray's workers cannot import
            ray.cloudpickle.register_pickle_by_value(module)
        ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    spent, readings, peaks = zip(*run_shards(partial(measured, run), shards, engine), strict=True)
    way = f"score, Ray, {workers} worker{'s' * (workers > 1)}" if workers else "score, this process"
    return Cost(way, sum(readings), len(shards), sum(spent), max(peaks))


def scoring(dataset: Path, out: Path) -> tuple[Scoring, list[Shard]]:
    """What `score_dataset` calls `score_shard` with."""
    files = {f"data/trajectories/{name}": mark for name, mark in files_in(f"{dataset}/data/trajectories").items()}
    reward = ImplicitFeedbackReward.from_pretrained(default_model())
    shards = len(files) // len(SPLITS)
    run = Scoring(str(dataset), "trajectories", files, str(out), reward, frozenset(), BATCH_TICKS)
    return run, [Shard(number, shards) for number in range(shards)]


def measured(run: Scoring, shard: Shard) -> tuple[float, int, float]:
    """CPU seconds and readings of a shard, and the peak memory of the process so far."""
    with tempfile.TemporaryDirectory() as scratch:  # a first reading, which imports what is needed
        make_dataset(Path(scratch) / "dataset", READINGS, 1)
        first, (only,) = scoring(Path(scratch) / "dataset", Path(scratch) / "scores")
        score_shard(first, only)
    started = time.process_time()
    counts = score_shard(run, shard)
    return time.process_time() - started, counts["readings"], peak_mb()


def export(way: str, url: str, out: Path, shards: int) -> Cost:
    """Export a store, to a new folder."""
    with tempfile.TemporaryDirectory() as scratch:  # a first person, who has everything imported that is needed
        first = f"sqlite:///{scratch}/store.db"
        fill(first, range(1))
        export_readings(first, Path(scratch) / "exported", 1)
    started = time.process_time()
    readings = export_readings(url, out, shards)
    return Cost(way, readings, shards, time.process_time() - started, peak_mb())


def export_readings(url: str, out: Path, shards: int) -> int:
    with closing(Store(url)) as store:
        return sum(export_dataset(store, out, Pseudonyms(KEY), shards=shards)["questions"].values())


if __name__ == "__main__":
    main()
