"""What a release costs to become a dataset: the data path, and apart from it the privacy report with the card.

The measure of the data path is what Polars needs to parse the same bytes: each behavior file with the types of its
columns, after the quotes around a window have been replaced (they are not escaped, docs/format.md 2).

make bench                                                    # on a simulated release
IFLLM_RELEASE=ifllm-release.tar.xz make bench
"""

import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from ifllm_hub.dataset.build import build_dataset, report_dataset
from ifllm_hub.sources.ifllm.archive import Release, open_release
from ifllm_hub.sources.ifllm.lines import count_columns
from ifllm_hub.sources.simulation.simulate import simulate_release

# Rounds in which everything is measured in turn; the first, which imports what it needs, does not count.
REPEATS = 5
NEWLINE, QUOTE, DELIMITER = 0x0A, 0x22, 0x02
HEAD, WINDOW = {"x": pl.Float64, "y": pl.Float64}, {"window": pl.String, "index": pl.Int32}
TYPES = {
    4: {**HEAD, "page_timer": pl.Float64, "epoch": pl.Int64},
    6: {**HEAD, **WINDOW, "page_timer": pl.Float64, "epoch": pl.Int64},
    7: {**HEAD, **WINDOW, "page_timer": pl.Float64, "face_ok": pl.Int8, "epoch": pl.Int64},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = os.environ.get("IFLLM_RELEASE")
        if source is None:
            source = str(Path(scratch) / "simulated")
            simulate_release(Path(source))
        release = open_release(source)
        layouts = layouts_of(release)
        took: list[tuple[float, float, float]] = []
        for number in range(1 + REPEATS):
            folder = Path(scratch) / f"dataset{number}"
            parse = cpu_seconds(lambda: parse_all(layouts))
            build = cpu_seconds(lambda folder=folder: build_dataset(release, folder, report=False))
            report = cpu_seconds(lambda folder=folder: report_dataset(folder, release))
            took.append((parse, build, report))
    parses, builds, reports = (sorted(of_one) for of_one in zip(*took[1:], strict=True))
    ratios = sorted(build / parse for parse, build, _ in took[1:])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    table = Table("CPU seconds", "median", "range", title=f"{len(layouts):,} behavior files of {source}")
    table.caption = (
        f"{REPEATS} rounds after one to warm up, in turn; Polars with {pl.thread_pool_size()} threads, OMP_NUM_THREADS "
        f"{os.environ.get('OMP_NUM_THREADS', 'not set')}; peak memory {peak:.2f} GiB"
    )
    table.add_row("Polars parses the behavior files", *shown(parses))
    table.add_row("data path: release -> Parquet, manifest", *shown(builds))
    table.add_row("  in parses of the same round", *shown(ratios))
    table.add_row("privacy report, figures and card", *shown(reports))
    Console(width=100).print(table)


def shown(values: list[float]) -> tuple[str, str]:
    return f"{median(values):.2f}", f"{values[0]:.2f}-{values[-1]:.2f}"


def cpu_seconds(work: Callable[[], object]) -> float:
    """Of all threads of this process: other load on the machine hardly counts."""
    started = time.process_time()
    work()
    return time.process_time() - started


def layouts_of(release: Release) -> dict[Path, int]:
    """The columns of each behavior file."""
    layouts: dict[Path, int] = {}
    for task in release.tasks:
        columns = max(count_columns(task.path / name) for name in task.files if name.startswith("rel_"))
        layouts |= {task.path / name: columns if name.startswith("rel_") else 4 for name in task.files}
    return layouts


def parse_all(layouts: dict[Path, int]) -> int:
    return sum(parse(path, columns).height for path, columns in layouts.items())


def parse(path: Path, columns: int) -> pl.DataFrame:
    content = path.read_bytes()
    return pl.read_csv(
        with_delimiters(content) if columns > 4 else content,
        has_header=False,
        schema=TYPES[columns],
        quote_char=chr(DELIMITER),
        truncate_ragged_lines=True,
        ignore_errors=True,
    )


def with_delimiters(content: bytes) -> bytes:
    """Each line's first and last quote replaced by a byte that does not occur."""
    data = np.frombuffer(bytearray(content), np.uint8)
    quotes = np.flatnonzero(data == QUOTE)
    line = np.searchsorted(np.flatnonzero(data == NEWLINE), quotes)
    changes = line[1:] != line[:-1]
    first, last = np.append(True, changes)[: len(quotes)], np.append(changes, True)[: len(quotes)]
    data[quotes[first != last]] = DELIMITER
    return data.tobytes()


if __name__ == "__main__":
    main()
