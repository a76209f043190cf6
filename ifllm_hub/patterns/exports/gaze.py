"""Recordings for pymovements: as a `Gaze`, or as a folder with the dataset definition that loads it."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import present_configs
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import replacing_folder
from ifllm_hub.patterns.exports.samples import TRAJECTORIES, Screen, load_trajectories, samples, sampling_rate, subjects
from ifllm_hub.terms import MODALITIES

if TYPE_CHECKING:
    from pymovements import Experiment, Gaze

DEFINITION = "ifllm.yaml"
_TRIAL = ["worker_id", "question_id"]
_TYPES = {"worker_id": pl.String, "x": pl.Float64, "y": pl.Float64, "side": pl.String, "char": pl.Int64}


def load_gaze(
    dataset: str | Path,
    question_ids: Collection[int] | None = None,
    modality: str = "gaze",
    screen: Screen | None = None,
    revision: str | None = None,
) -> "Gaze":
    """Recorded positions as a `pymovements.Gaze`, with a trial per question: `split()` gives one `Gaze` for each.

    The samples have `worker_id`, `question_id`, `time` (Int64, ms since the answer appeared), `pixel` (list of two
    Float32: x and y, CSS px in the viewport; entries are null where there is none), `side` ("left", "right") and `char`
    (Int64, code points before the caret in that answer), the last two null off the text. The ticks of both modalities
    are the same, row by row. Nobody is left out: `excluded_worker` and `ai_error` are in the configs of the questions.

    Sampling is irregular. pymovements takes the actual times from `time`; its methods that assume a constant rate
    (velocities, event detection) take `experiment.sampling_rate`, here the median rate. Call `Gaze.resample` before
    them.

    Args:
        dataset: a folder of tier `full`, or a Hub repo id.
        question_ids: only these questions.
        modality: "gaze" or "mouse".
        screen: for degrees of visual angle, which are otherwise unknown.
        revision: of a Hub repo.

    Raises:
        IfllmError: the extra `movements` is not installed, the dataset has no trajectories, or a question none.

    Examples:
        >>> from ifllm_hub.dataset.load import load_config
        >>> from ifllm_hub.patterns.exports.gaze import load_gaze
        >>> question = load_config("ifllm", "pairwise")["question_id"][0]
        >>> gaze = load_gaze("ifllm", [question])
        >>> gaze.samples.columns
        ['worker_id', 'question_id', 'time', 'side', 'char', 'pixel']
    """
    movements = _pymovements()
    ticks = samples(load_trajectories(dataset, question_ids, revision), modality)
    return movements.Gaze(
        ticks,
        _experiment(sampling_rate(ticks), screen),
        trial_columns=_TRIAL,
        time_column="time",
        time_unit="ms",
        pixel_columns=["x", "y"],
        metadata={"modality": modality},
    )


def write_gaze_dataset(dataset: str | Path, out: Path, screen: Screen | None = None) -> None:
    """Write a folder that `pymovements.Dataset` loads through its own definition, `ifllm.yaml`.

    pymovements (0.28) reads no Parquet, so this writes CSV: the features as precomputed reading measures, which is all
    that the public tier has, and for the tier `full` a file of samples per modality and worker, such as
    `raw/gaze-worker12.csv`, with the columns and trials of `load_gaze`.

    Args:
        dataset: a folder that `ifllm build` or the collector wrote; any tier with features.
        out: replaced if it is an earlier export. Only its owner may read it.
        screen: as in `load_gaze`.

    Raises:
        IfllmError: the extra `movements` is not installed, there are no features, or `out` cannot be written.
    """
    movements = _pymovements()
    measures = load_config(dataset, "features").sort("worker_id", "question_id")
    resources: list[dict[str, Any]] = [
        {
            "content": "precomputed_reading_measures",
            "filename_pattern": "features.csv",
            # A feature may be null in all of the first rows.
            "load_kwargs": {"read_csv_kwargs": {"infer_schema_length": None}},
        },
    ]
    rate = None
    with replacing_folder(out, DEFINITION, private=True) as folder:
        (folder / "precomputed_reading_measures").mkdir()
        measures.write_csv(folder / "precomputed_reading_measures" / "features.csv")
        if TRAJECTORIES in present_configs(Path(dataset)):
            resources.append(_SAMPLES)
            rate = _write_samples(load_trajectories(dataset), folder / "raw")
        movements.DatasetDefinition(
            "ifllm",
            long_name="How people read LLM answers",
            resources=resources,
            experiment=_experiment(rate, screen),
        ).to_yaml(folder / DEFINITION)


_SAMPLES = {
    "content": "gaze",
    "filename_pattern": "{modality}-{subject}.csv",
    "load_function": "from_csv",
    "load_kwargs": {
        "trial_columns": _TRIAL,
        "time_column": "time",
        "time_unit": "ms",
        "pixel_columns": ["x", "y"],
        "read_csv_kwargs": {"schema_overrides": _TYPES},
    },
}


def _write_samples(trajectories: pl.DataFrame, folder: Path) -> float:
    """Write the samples of each modality and worker. Returns the median sampling rate, Hz."""
    folder.mkdir()
    names = subjects(trajectories["worker_id"])
    for modality in MODALITIES:
        ticks = samples(trajectories, modality)
        for (worker,), theirs in ticks.partition_by("worker_id", as_dict=True).items():
            theirs.write_csv(folder / f"{modality}-{names[str(worker)]}.csv")
    return sampling_rate(ticks)


def _experiment(rate: float | None, screen: Screen | None) -> "Experiment":
    movements = _pymovements()
    if screen is None:
        return movements.Experiment(origin="upper left", sampling_rate=rate)
    return movements.Experiment(
        *screen.resolution, *screen.size_cm, screen.distance_cm, origin="upper left", sampling_rate=rate
    )


def _pymovements() -> Any:
    try:
        import pymovements
    except ImportError as error:
        raise IfllmError(
            "This export needs pymovements. Install it with: pip install 'ifllm_hub[movements]'"
        ) from error
    return pymovements
