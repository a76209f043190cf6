"""What exports start from: the config `trajectories` as a row a tick of one modality, and the readers' screen."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import present_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.ticks import all_ticks

TRAJECTORIES = "trajectories"


@dataclass(frozen=True)
class Screen:
    """The screen in front of everybody in a dataset. No dataset has it: only who collected it can know.

    Attributes:
        resolution: width and height, CSS px: `screen.width` and `screen.height` of the browser, the unit of positions.
        size_cm: width and height of the visible area, cm.
        distance_cm: from the eyes to the screen, cm.

    Raises:
        IfllmError: a value is not a positive number.
    """

    resolution: tuple[int, int]
    size_cm: tuple[float, float]
    distance_cm: float

    def __post_init__(self) -> None:
        values = (*self.resolution, *self.size_cm, self.distance_cm)
        if not all(math.isfinite(value) and value > 0 for value in values):
            given = f"{self.resolution} px, {self.size_cm} cm, {self.distance_cm} cm away"
            raise IfllmError(f"The screen ({given}) has a value that is not positive. Measure it and pass all values.")


def load_trajectories(
    dataset: str | Path, question_ids: Collection[int] | None = None, revision: str | None = None
) -> pl.DataFrame:
    """The rows of the config `trajectories` with at least one tick, by `worker_id` and `question_id`.

    Raises:
        IfllmError: the dataset has no trajectories, a question has none, or see `load_config`.
    """
    if Path(dataset).is_dir() and TRAJECTORIES not in present_configs(Path(dataset)):
        raise IfllmError(
            f"{dataset}: has no trajectories, which only the tier `full` has. Build it with --tier full, or load the "
            "gated repo."
        )
    rows = load_config(dataset, TRAJECTORIES, revision, question_ids)
    rows = rows.filter(pl.col("t").list.len() > 0).sort("worker_id", "question_id")
    if missing := sorted(set(question_ids or ()).difference(rows["question_id"])):
        raise IfllmError(f"{dataset}: nothing was recorded for question {missing[0]}. Choose one with ticks.")
    if rows.is_empty():
        raise IfllmError(f"{dataset}: nothing was recorded for any question. Choose a dataset with ticks.")
    return rows


def samples(trajectories: pl.DataFrame, modality: str) -> pl.DataFrame:
    """One row per tick, in the order of the rows and of their ticks.

    Args:
        trajectories: from `load_trajectories`.
        modality: "mouse" or "gaze".

    Returns:
        `worker_id`, `question_id`, `time` (Int64, ms since the answer appeared), `x` and `y` (Float32, CSS px in the
        viewport, right and down; null where not recorded), `side` ("left", "right"; null off the text) and `char`
        (Int64, code points before the caret in that answer; null off the text).
    """
    places = trajectories.select("worker_id", "t", x=f"{modality}_x", y=f"{modality}_y").explode(
        "t", "x", "y", empty_as_null=False
    )
    ticks = all_ticks(trajectories).select("question_id", time="t", side=f"{modality}_side", char=f"{modality}_char")
    return pl.concat([places.drop("t"), ticks], how="horizontal").select(
        "worker_id", "question_id", "time", "x", "y", "side", "char"
    )


def sampling_rate(ticks: pl.DataFrame) -> float:
    """Hz, to 0.01: one over the median time between ticks of a question; NaN where none has two.

    Sampling is irregular (docs/format.md 3): a rate describes it, and only `time` says when a tick was.
    """
    steps = ticks.select(step=pl.col("time").diff().over("question_id")).filter(pl.col("step") > 0)["step"]
    median = steps.median()
    return round(1_000 / float(median), 2) if isinstance(median, int | float) else math.nan


def subjects(workers: pl.Series) -> dict[str, str]:
    """The name of each worker in files, sorted by worker id: the letters and digits of the id, as BIDS wants it.

    Raises:
        IfllmError: an id has neither, or two have the same.
    """
    names = {worker: re.sub("[^0-9A-Za-z]", "", worker) for worker in workers.unique().sort().to_list()}
    taken: dict[str, str] = {}
    for worker, name in names.items():
        if not name or name.lower() in taken:
            why = f"{taken[name.lower()]!a} has the same" if name else "it has none"
            raise IfllmError(
                f"The worker {worker!a} cannot be named in files by letters and digits: {why}. Change the worker ids."
            )
        taken[name.lower()] = worker
    return names
