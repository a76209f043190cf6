"""Every measure in numbers, and the file of all values that other statistics programs read."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ifllm_hub.files import write_atomically
from ifllm_hub.patterns.measures import MEASURES
from ifllm_hub.terms import MODALITIES

MEASURES_FILE = "measures.csv.gz"


@dataclass(frozen=True)
class Summary:
    """A measure over all readings in which it is defined.

    Attributes:
        measure: of `measures.MEASURES`.
        modality: "mouse", "gaze" or "both".
        n, workers: readings, and whose they are.
        mean: over readings, in the measure's unit.
        lower, median, upper: quartiles over readings.
        middle_workers: the median over workers of each one's median: workers with many readings count like others.
    """

    measure: str
    modality: str
    n: int
    workers: int
    mean: float
    lower: float
    median: float
    upper: float
    middle_workers: float


def summaries(table: pl.DataFrame) -> list[Summary]:
    """A row for each measure and modality with a value, in the order of `MEASURES`.

    Args:
        table: from `measures.measured`.
    """
    found = []
    for measure in MEASURES:
        for modality in (*MODALITIES, "both"):
            rows = table.filter(measure=measure.name, modality=modality)
            if rows.is_empty():
                continue
            lower, median, upper = (
                float(rows["value"].quantile(level, "linear") or 0.0) for level in (0.25, 0.5, 0.75)
            )
            theirs = rows.group_by("worker_id").agg(pl.col("value").median())["value"]
            found.append(
                Summary(
                    measure.name,
                    modality,
                    rows.height,
                    len(theirs),
                    float(rows["value"].sort().mean()),  # type: ignore[arg-type]
                    lower,
                    median,
                    upper,
                    float(theirs.median()),  # type: ignore[arg-type]
                )
            )
    return found


def write_measures(table: pl.DataFrame, folder: Path) -> Path:
    """Write all values, to six digits, as `measures.csv.gz`; the same table gives the same bytes.

    Returns:
        The file, whose columns are those of `measures.measured`.

    Raises:
        IfllmError: the folder cannot be written.
    """
    text = table.with_columns(pl.col("value").round_sig_figs(6)).write_csv()
    path = folder / MEASURES_FILE
    write_atomically(path, gzip.compress(text.encode(), compresslevel=6, mtime=0))
    return path
