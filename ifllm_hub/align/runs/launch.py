"""Run a script of `training/` under `accelerate launch` in a process of its own, and follow its steps."""

import contextlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ifllm_hub.align.policies import BASE_MODELS, accelerator_available
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import shipped_folder

if TYPE_CHECKING:
    from transformers import TrainerCallback

LOG = "train.log"
PROGRESS = "progress.jsonl"
POLL_SECONDS = 0.2
# One torch thread per process: with more, OpenMP's busy waiting is several times slower on a shared CPU. Progress bars
# would only fill the log.
CPU_ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1", "PYTHONUNBUFFERED": "1"}
# The line that says why a Python process ended; the launchers' own errors only name their child process.
ERROR_LINE = re.compile(r"^(\[rank\d+\]: *)?(error: |(?!.*(CalledProcess|ChildFailed)Error)[\w.]*(Error|Exception)\b)")

# The recipe for any of `BASE_MODELS`, and the models whose supervised fine-tuning takes other than its 8 answers per
# step.
PAPER = "paper"
PAPER_BATCHES = {"pythia-2.8b": 16, "qwen2.5-3b": 4, "qwen3-4b": 4}

Progress = Callable[[int, int, float | None], None]
# The name of a recipe's file; the part before the hyphen is the script that runs it.
Stage = Literal["sft", "dpo", "dpo-reference", "kto"]
# How the weights are spread over processes: a file in `training/accelerate`.
Sharding = Literal["ddp", "fsdp2", "zero2", "zero3"]


def recipe_file(recipe: str, stage: Stage = "dpo") -> Path:
    """The YAML file of a recipe: a folder name under `training/recipes`, or the path of a YAML file.

    Raises:
        IfllmError: there is no such recipe, or it has no such stage.
    """
    if recipe in BASE_MODELS:
        policy = recipe if stage == "sft" else f"runs/{recipe}/sft (what the stage sft left)"
        raise IfllmError(f"All models now share one recipe, instead of {recipe!r}: --recipe {PAPER} --policy {policy}.")
    recipes = shipped_folder("training") / "recipes"
    file = Path(recipe) if recipe.endswith((".yaml", ".yml")) else recipes / recipe / f"{stage}.yaml"
    if not file.is_file():
        known = ", ".join(sorted(path.parent.name for path in recipes.glob(f"*/{stage}.yaml")))
        raise IfllmError(
            f"There is no recipe {recipe!r} for {stage} ({file}). Name one of {known}, or the path of a YAML file."
        )
    return file


def command_line(
    recipe: str,
    dataset: str | Path,
    output_dir: str | Path,
    overrides: Mapping[str, Any],
    processes: int = 1,
    stage: Stage = "dpo",
    sharding: Sharding = "ddp",
) -> list[str]:
    """The command that trains, ready to be printed or run.

    Args:
        recipe: a folder name under `training/recipes`, such as `"smollm2-135m"`, or the path of a YAML file.
        dataset: a folder laid out like the Hub repo, or a Hub dataset id.
        output_dir: where the checkpoint goes.
        overrides: flags of the script by name, without dashes; they win over the recipe.
        processes: one per GPU, or that many CPU processes on a machine without a GPU.
        stage: which recipe of the folder, and which script.
        sharding: how the weights are spread over processes; with one process on a CPU there is nothing to spread.

    Raises:
        IfllmError: there is no such recipe, or it names no policy and none is given; `processes` is below 1, or the
            packages for training are not installed.
    """
    if importlib.util.find_spec("trl") is None or importlib.util.find_spec("accelerate") is None:
        raise IfllmError("Training needs TRL and accelerate. Install them: pip install 'ifllm_hub[train]'")
    if processes < 1:
        raise IfllmError(f"processes is {processes}; it must be at least 1.")
    training, file = shipped_folder("training"), recipe_file(recipe, stage)
    launcher = "cpu" if sharding == "ddp" and processes == 1 and not accelerator_available() else sharding
    flags = {"dataset": dataset, "output_dir": output_dir, "disable_tqdm": True, **overrides}
    if recipe == PAPER:
        flags = _paper_flags(str(overrides.get("policy", "")), stage) | flags
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(training / "accelerate" / f"{launcher}.yaml"), "--num_processes", str(processes)),
        *(str(training / f"{stage.partition('-')[0]}.py"), "--config", str(file)),
        *(word for name, value in flags.items() for word in (f"--{name}", *_words(value))),
    ]


def check_machine(processes: int, sharding: Sharding) -> None:
    """Refuse what this machine cannot run.

    Raises:
        IfllmError: more processes than GPUs, weights to be sharded without a GPU, or DeepSpeed is not installed.
    """
    import torch

    gpus = torch.accelerator.device_count() if accelerator_available() else 0
    if gpus and processes > gpus:
        raise IfllmError(f"processes is {processes}, but this machine has {gpus} GPU(s). Take one process per GPU.")
    if sharding != "ddp" and not gpus:
        raise IfllmError(
            f"{sharding} needs GPUs, and this machine has none: accelerate would shard nothing. Take ddp here, or "
            "print the command for another machine with --dry-run."
        )
    if sharding.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        raise IfllmError(f"{sharding} needs DeepSpeed: pip install deepspeed. Or take fsdp2, which needs nothing more.")


def launch_dpo(
    recipe: str,
    dataset: str | Path,
    output_dir: str | Path,
    overrides: Mapping[str, Any],
    processes: int = 1,
    on_progress: Progress | None = None,
) -> None:
    """Run the stage `dpo` of `command_line(...)`; see `launch`."""
    launch(command_line(recipe, dataset, output_dir, overrides, processes), output_dir, on_progress)


def launch(command: list[str], output_dir: str | Path, on_progress: Progress | None = None) -> None:
    """Run a command of `command_line` to its end; its output goes to `<output_dir>/train.log`.

    Args:
        on_progress: called with (step, number of steps, loss or None) for every step, at most 0.2 s late.

    Raises:
        IfllmError: the folder cannot be written, or training fails; the message then has the error's last line and the
            path of the log.
    """
    output_dir = Path(output_dir)
    log, progress = output_dir / LOG, output_dir / PROGRESS
    environment = ENVIRONMENT if accelerator_available() else ENVIRONMENT | CPU_ENVIRONMENT
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        progress.unlink(missing_ok=True)
        output = log.open("wb")
    except OSError as error:
        raise IfllmError(
            f"{output_dir}: cannot be written ({error.strerror}). Choose a folder you may write to."
        ) from error
    with output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment | os.environ,
        )
        try:
            offset = 0
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                offset = _report(progress, offset, on_progress)
            _report(progress, offset, on_progress)
        finally:
            # Ctrl-C, or an error in the caller.
            if process.poll() is None:
                _end(process)
    if process.returncode != 0:
        raise IfllmError(
            f"Training ended with status {process.returncode}: {_reason(log)} The whole log: {log}. Correct the cause "
            "and start again; a run with a checkpoint continues from it."
        )


def progress_callback(path: Path) -> "TrainerCallback":
    """The other end of `on_progress`: in the training process, append one JSON line per step to `path`."""
    from transformers import TrainerCallback

    class ProgressCallback(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.write(state, None)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            # A step that is about to be logged is written by `on_log`, which knows its loss.
            if not control.should_log:
                self.write(state, None)

        def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if "loss" in kwargs["logs"]:
                self.write(state, kwargs["logs"]["loss"])

        def write(self, state: Any, loss: float | None) -> None:
            if state.is_world_process_zero:
                entry = {"step": state.global_step, "max_steps": state.max_steps, "loss": loss}
                with path.open("a") as file:
                    file.write(json.dumps(entry) + "\n")

    return ProgressCallback()


def _paper_flags(policy: str, stage: Stage) -> dict[str, Any]:
    if not policy:
        what = f"one of {', '.join(BASE_MODELS)}" if stage == "sft" else "the folder that the stage sft left"
        raise IfllmError(f"The recipe {PAPER} is for any model, so --policy must name one: {what}.")
    if stage != "sft" or policy not in PAPER_BATCHES:
        return {}
    return dict.fromkeys(("per_device_train_batch_size", "per_device_eval_batch_size"), PAPER_BATCHES[policy])


def _words(value: Any) -> list[str]:
    match value:
        case list() | tuple():
            return [str(item) for item in value]
        case dict():
            return [json.dumps(value)]
        case _:
            return [str(value)]


def _end(process: subprocess.Popen[bytes]) -> None:
    import psutil  # type: ignore[import-untyped]

    # The launcher does not pass a signal on to the processes that train.
    launcher = psutil.Process(process.pid)
    family = [*launcher.children(recursive=True), launcher]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.terminate()
    for member in psutil.wait_procs(family, timeout=10)[1]:
        member.kill()
    process.wait()


def _report(progress: Path, offset: int, on_progress: Progress | None) -> int:
    """Pass on the complete lines after `offset` (bytes); return where they end."""
    if on_progress is None or not progress.is_file():
        return offset
    with progress.open("rb") as file:
        file.seek(offset)
        lines = file.read()
    complete = lines[: lines.rfind(b"\n") + 1]
    for line in complete.splitlines():
        entry = json.loads(line)
        on_progress(entry["step"], entry["max_steps"], entry["loss"])
    return offset + len(complete)


def _reason(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    reasons = [line for line in lines if ERROR_LINE.match(line)] or lines
    return reasons[-1].strip() if reasons else "it printed nothing."
