"""What a report is made from: a run folder, read once and checked before anything is drawn."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import polars as pl

from ifllm_hub import __version__
from ifllm_hub.align.runs.results import Results
from ifllm_hub.dataset.layout import parquet_path
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.manifest import Built
from ifllm_hub.dataset.schema import SPLITS, label_source_of, preferences_config, present_configs
from ifllm_hub.documents import checked
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json
from ifllm_hub.reward.model.config import ModelConfig
from ifllm_hub.reward.protocol.leaderboard import Board

# If this folder is deleted, `ifllm run` repeats the stage that writes it.
_FOLDERS = {
    "build": "dataset",
    "patterns": "patterns",
    "reward": "reward",
    "label": "dataset/data/preferences_explicit",
    "align": "policy",
}


class ReadingPatterns(TypedDict):
    """What a report takes of `patterns/patterns.json`."""

    questions: int
    workers: int
    findings: list[str]
    effects: list[dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """A run folder in memory; the frames hold both splits, with a `split` column.

    Attributes:
        manifest: `dataset/manifest.json`.
        patterns: `patterns/patterns.json`.
        pairwise, pointwise, features: configs of the dataset, in its units.
        preferences: those of all label sources, one after the other.
        board: `reward/leaderboard.json`.
        reward: `reward/config.json`.
        results: `policy/results.json`.
        log: entries of `policy/trainer_state.json`, in the order they were logged.
        settings: the run's settings.
        stages: the outcome of each stage, in order.
    """

    folder: Path
    manifest: Built
    patterns: ReadingPatterns
    pairwise: pl.DataFrame
    pointwise: pl.DataFrame
    features: pl.DataFrame
    preferences: pl.DataFrame
    board: Board
    reward: ModelConfig
    results: Results
    log: list[dict[str, Any]]
    settings: dict[str, Any]
    stages: dict[str, Any]

    def trajectories(self, question_ids: list[int]) -> pl.DataFrame:
        """Rows of the `trajectories` config for some questions, in no particular order.

        Raises:
            IfllmError: a file is missing or damaged.
        """
        return _config(self.folder, "trajectories", "build", question_ids)


def load_run(folder: Path) -> Run:
    """Read and check everything a report needs, except trajectories.

    Raises:
        IfllmError: the folder is not a run, a part is missing or damaged, or the parts do not belong together.
    """
    if not folder.is_dir():
        raise IfllmError(f"{folder}: no such run folder. Create one: ifllm run --out {folder}")
    state = _json(folder, "stages.json", None)
    if state.get("ifllm_hub") != __version__:
        raise IfllmError(
            f"{folder / 'stages.json'}: made by ifllm_hub {state.get('ifllm_hub')}, but this is {__version__}. Run the "
            f"same `ifllm run --out {folder}` command again."
        )
    manifest = cast(Built, _json(folder, "dataset/manifest.json", "build"))
    read = "patterns/patterns.json"
    patterns = checked(_json(folder, read, "patterns"), ReadingPatterns, folder / read, _remedy(folder, "patterns"))
    scored = "reward/leaderboard.json"
    board = checked(_json(folder, scored, "reward"), Board, folder / scored, _remedy(folder, "reward"))
    reward = cast(ModelConfig, _json(folder, "reward/config.json", "reward"))
    if reward["training"]["release_sha256"] != manifest["release_sha256"]:
        path = folder / "reward/config.json"
        raise _unusable(folder, path, "reward", "the reward model was trained on another release than dataset/ is")
    results = cast(Results, _json(folder, "policy/results.json", "align"))
    trainer = _json(folder, "policy/trainer_state.json", "align")
    return Run(
        folder=folder,
        manifest=manifest,
        patterns=patterns,
        pairwise=_config(folder, "pairwise", "build"),
        pointwise=_config(folder, "pointwise", "build"),
        features=_config(folder, "features", "build"),
        preferences=_preferences(folder),
        board=board,
        reward=reward,
        results=results,
        log=trainer["log_history"],
        settings=state["settings"],
        stages=state["stages"],
    )


def _config(folder: Path, config: str, stage: str, question_ids: list[int] | None = None) -> pl.DataFrame:
    for split in SPLITS:
        _check_there(folder, parquet_path(folder / "dataset", config, split), stage)
    try:
        return load_config(folder / "dataset", config, question_ids=question_ids)
    except IfllmError as error:
        raise IfllmError(f"{error} {_remedy(folder, stage)}") from error


def _preferences(folder: Path) -> pl.DataFrame:
    explicit = preferences_config("explicit")
    others = [config for config in present_configs(folder / "dataset") if label_source_of(config)]
    return pl.concat(_config(folder, config, "label") for config in dict.fromkeys([explicit, *others]))


def _json(folder: Path, name: str, stage: str | None) -> dict[str, Any]:
    path = folder / name
    _check_there(folder, path, stage)
    try:
        content = read_json(path)
    except IfllmError as error:
        raise _unusable(folder, path, stage, f"damaged ({error.__cause__})") from error
    if not isinstance(content, dict):
        raise _unusable(folder, path, stage, "damaged (no JSON object)")
    return content


def _check_there(folder: Path, path: Path, stage: str | None) -> None:
    if not path.is_file():
        raise _unusable(folder, path, stage, "not there")


def _unusable(folder: Path, path: Path, stage: str | None, problem: str) -> IfllmError:
    return IfllmError(f"{path}: {problem}. {_remedy(folder, stage)}")


def _remedy(folder: Path, stage: str | None) -> str:
    """How to restore a stage's output; without the list of stages (None), only a new run helps."""
    if stage is None:
        return "Every run folder has it. Name another folder, or create one: `ifllm run --out <folder>`."
    part = folder / _FOLDERS[stage]
    again = f"un the same `ifllm run --out {folder}` command again."
    return f"The stage '{stage}' writes it. " + (f"Delete {part}, then r{again}" if part.exists() else f"R{again}")
