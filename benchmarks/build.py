"""How long a release takes to become a dataset, against the time Polars needs to read the same bytes as lines.

make bench                                             # on a simulated release
IFLLM_RELEASE=ifllm-release.tar.xz make bench
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.features.extract import extract_features
from ifllm_hub.sources.ifllm.archive import Release, open_release
from ifllm_hub.sources.simulation.simulate import simulate_release


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = os.environ.get("IFLLM_RELEASE")
        if source is None:
            source = str(Path(scratch) / "simulated")
            simulate_release(Path(source))
        release = open_release(source)
        dataset = Path(scratch) / "dataset"
        read, _ = timed(lambda: read_as_lines(release))
        build, manifest = timed(lambda: build_dataset(release, dataset))
        trajectories = pl.concat([pl.read_parquet(path) for path in (dataset / "data/trajectories").iterdir()])
        extract, features = timed(lambda: extract_features(trajectories))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    table = Table("measured", "", title=f"{manifest['lines']['rel']['lines']:,} rel lines of {source}")
    table.add_row("Polars reads the behavior files as lines", f"{read:.2f} s")
    table.add_row("release -> dataset folder, with features", f"{build:.2f} s, {build / read:.1f} times that")
    table.add_row(f"features of {features.height:,} questions, from Parquet", f"{extract:.2f} s")
    table.add_row("peak memory of this process", f"{peak:.2f} GiB")
    Console(width=100).print(table)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def read_as_lines(release: Release) -> int:
    """Every byte of the behavior files into one string column; a separator that does not occur keeps lines whole."""
    return sum(
        pl.read_csv(path, has_header=False, separator="\x02", quote_char=None, schema={"line": pl.String}).height
        for path in release.paths()
        if path.parent != release.root and path.stat().st_size
    )


if __name__ == "__main__":
    main()
