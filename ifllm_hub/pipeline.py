"""`ifllm run`: all stages from a release to a report, each skipped when its inputs have not changed."""

import hashlib
import json
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ifllm_hub import __version__
from ifllm_hub.align.runs.launch import recipe_file
from ifllm_hub.dataset.layout import parquet_path
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.terms import Advance

STATE_FILE = "stages.json"
ERROR_FILE = "error.log"


@dataclass(frozen=True)
class Settings:
    """What a run is made from.

    Attributes:
        release: folder, archive or URL of a release; None simulates one.
        workers, questions, seed: of the simulation.
        seeds: of the reward protocol.
        recipe: the recipe in `training/recipes` that says which policy is tuned and how.
        policy: the model or folder to tune in place of the recipe's.
        label_source: whose preferences the policy is tuned on.
        steps: DPO steps; None trains for as long as the recipe says.
        processes: training processes (one a GPU).
    """

    release: str | None = None
    workers: int = 24
    questions: int = 300
    seed: int = 0
    seeds: int = 20
    recipe: str = "smollm2-135m-cpu"
    policy: str | None = None
    label_source: str = "forest"
    steps: int | None = None
    processes: int = 1


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    Attributes:
        inputs: what it depends on besides the stages before it; it runs again when these change.
        output: the file that shows it is finished.
        work: runs it, given a function to call with the share done (0-1).
        leftover: a folder that an interrupted run may have begun; only a run with the same inputs may continue it.
    """

    name: str
    inputs: dict[str, Any]
    output: Path
    work: Callable[[Advance], None]
    leftover: Path | None = None


def stages(settings: Settings, out: Path) -> list[Stage]:
    """The stages of a run in order."""
    dataset, reward, policy = out / "dataset", out / "reward", out / "policy"
    source = settings.release or out / "simulated"

    def simulate(advance: Advance) -> None:
        from ifllm_hub.sources.simulation.simulate import simulate_release

        simulate_release(out / "simulated", settings.workers, settings.questions, settings.seed)

    def build(advance: Advance) -> None:
        from ifllm_hub.dataset.build import build_dataset
        from ifllm_hub.sources.ifllm.archive import open_release

        release = open_release(source, advance=lambda share: advance(share / 3))
        build_dataset(release, dataset, advance=lambda share: advance((1 + 2 * share) / 3))

    def read(advance: Advance) -> None:
        from ifllm_hub.report.patterns.page import write_patterns

        write_patterns(dataset, out / "patterns", advance=advance)

    def train(advance: Advance) -> None:
        from ifllm_hub.reward.train import train_reward

        train_reward(dataset, reward, settings.seeds, n_jobs=-1, advance=advance)

    def label(advance: Advance) -> None:
        from ifllm_hub.preferences.labels import write_preferences

        write_preferences(dataset)

    def align(advance: Advance) -> None:
        from ifllm_hub.align.runs.launch import launch_dpo

        overrides: dict[str, Any] = {"label_source": settings.label_source, "seed": settings.seed}
        if settings.policy is not None:
            overrides["policy"] = settings.policy
        if settings.steps is not None:
            overrides["max_steps"] = settings.steps
        launch_dpo(
            settings.recipe,
            dataset,
            policy,
            overrides,
            settings.processes,
            on_progress=lambda step, steps, loss: advance(step / steps),
        )

    def report(advance: Advance) -> None:
        from ifllm_hub.report.report import build_report

        build_report(out)

    simulated = (
        []
        if settings.release
        else [
            Stage(
                "simulate",
                {name: getattr(settings, name) for name in ("workers", "questions", "seed")},
                out / "simulated" / "ground_truth.parquet",
                simulate,
            )
        ]
    )
    return [
        *simulated,
        Stage("build", {"release": _identity(settings.release)}, dataset / "manifest.json", build),
        Stage("patterns", {}, out / "patterns" / "patterns.html", read),
        Stage("reward", {"seeds": settings.seeds}, reward / "leaderboard.json", train),
        Stage("label", {}, parquet_path(dataset, preferences_config("explicit"), "test"), label),
        Stage(
            "align",
            {
                "recipe": recipe_file(settings.recipe).read_text(encoding="utf-8"),
                **{name: getattr(settings, name) for name in ("policy", "label_source", "steps", "seed")},
            },
            policy / "results.json",
            align,
            leftover=policy,
        ),
        Stage("report", {}, out / "report.html", report),
    ]


def run(settings: Settings, out: Path, on_stage: Callable[[str, str, float], None] | None = None) -> dict[str, Path]:
    """Run the stages, except those whose inputs have not changed.

    Args:
        out: the run folder; finished stages in it are kept.
        on_stage: called with (stage, "running" | "done" | "kept", share done 0-1).

    Returns:
        The paths of the dataset, the page of reading patterns, the reward model, the policy and the report.

    Raises:
        IfllmError: a stage failed; names the stage and what to do. Later stages did not start, earlier ones are kept.
    """
    tell = on_stage or (lambda stage, status, share: None)
    listed = stages(settings, out)
    state = _read_state(out)
    key = __version__
    for stage in listed:
        key = hashlib.sha256(json.dumps([key, stage.name, stage.inputs], sort_keys=True).encode()).hexdigest()
        known = state.get(stage.name, {})
        if known.get("key") == key and known["finished"] and stage.output.exists():
            tell(stage.name, "kept", 1.0)
            continue
        if stage.leftover and known.get("key") != key:
            shutil.rmtree(stage.leftover, ignore_errors=True)
        state[stage.name] = {"key": key, "finished": False}
        _write_state(out, settings, state)
        tell(stage.name, "running", 0.0)
        started = time.monotonic()
        _work(stage, out, lambda share, name=stage.name: tell(name, "running", share))  # type: ignore[misc]
        state[stage.name] |= {"finished": True, "seconds": round(time.monotonic() - started, 1)}
        _write_state(out, settings, state)
        tell(stage.name, "done", 1.0)
    return {
        "dataset": out / "dataset",
        "patterns": out / "patterns" / "patterns.html",
        "reward model": out / "reward",
        "policy": out / "policy",
        "report": out / "report.html",
    }


def _work(stage: Stage, out: Path, advance: Advance) -> None:
    again = "Then run the same command again: finished stages are kept."
    try:
        stage.work(advance)
    except IfllmError as error:
        raise IfllmError(f"stage '{stage.name}': {error} {again}") from error
    except Exception as error:
        write_atomically(out / ERROR_FILE, traceback.format_exc())
        raise IfllmError(
            f"stage '{stage.name}' failed unexpectedly ({type(error).__name__}: {error}). The traceback is in "
            f"{out / ERROR_FILE}; please report it. {again}"
        ) from error


def _read_state(out: Path) -> dict[str, Any]:
    """The finished stages; makes the run folder, and refuses a folder that is not one."""
    path = out / STATE_FILE
    if path.exists():
        return dict(read_json(path)["stages"])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise IfllmError(f"{out}: exists and is not a run folder (no {STATE_FILE}). Choose another --out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IfllmError(f"{out}: cannot be written ({error.strerror}). Choose an --out you may write to.") from error
    return {}


def _write_state(out: Path, settings: Settings, state: dict[str, Any]) -> None:
    content = {"ifllm_hub": __version__, "settings": asdict(settings), "stages": state}
    write_atomically(out / STATE_FILE, json.dumps(content, indent=2) + "\n")


def _identity(release: str | None) -> Any:
    """What identifies a release without unpacking it: its path or URL, and for files the size and time."""
    if release is None or release.startswith(("http://", "https://")):
        return release
    path = Path(release).absolute()
    if path.is_file():
        return [str(path), path.stat().st_size, path.stat().st_mtime_ns]
    if path.is_dir():
        from ifllm_hub.sources.ifllm.archive import inventory

        try:
            return [str(path), inventory(path).fingerprint()]
        except IfllmError as error:
            raise IfllmError(f"stage 'build': {error}") from error
    return str(path)
