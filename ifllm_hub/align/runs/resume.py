"""How a training run continues where it was interrupted, and refuses to continue a different run.

A checkpoint counts steps, and the settings determine what a step is: how many rows it has, and which learning rate. So
a run is identified by all of its settings except those in `FREE`, and by the rows per step. A start with as many rows
per step continues the run, even if they are divided among other micro-batches or processes.
"""

import copy
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ifllm_hub.align.runs.results import RESULTS
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import make_folder, read_json, write_atomically

SETUP = "setup.json"
# How accelerate tells a process that the weights, and so the checkpoints, are sharded.
SHARDED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
# What may differ in the setup of a continuation: where the data are stored, since the rows themselves are compared.
FREE_IN_SETUP = {"dataset", "dataset_revision"}
# Settings of the trainer that do not affect what is learned: where results go, what is shown and when, and how the
# machine does it. Those that make up the size of a step are compared as their product.
FREE = {
    *("output_dir", "run_name", "project", "report_to", "disable_tqdm", "log_level", "log_level_replica"),
    *("log_on_each_node", "logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
    *("include_num_input_tokens_seen", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"),
    *("log_completions", "log_multimodal", "num_completions_to_print", "log_unique_prompts"),
    *("log_completions_hub_repo", "push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy"),
    *("hub_always_push", "hub_revision"),
    *("save_strategy", "save_steps", "save_total_limit", "save_on_each_node", "enable_jit_checkpoint"),
    *("eval_on_start", "eval_strategy", "eval_steps", "eval_delay", "eval_accumulation_steps"),
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("use_cpu", "local_rank", "debug", "skip_memory_metrics", "torch_empty_cache_steps", "dataset_num_proc"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "precompute_ref_batch_size"),
    *("activation_checkpointing", "activation_checkpointing_kwargs", "activation_offloading"),
    *("gradient_checkpointing", "gradient_checkpointing_kwargs", "ddp_backend", "ddp_broadcast_buffers"),
    *("ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph", "ddp_timeout"),
}
# The length of a run. Where the learning rate does not depend on it, a run may continue past its original end.
LENGTH = {"max_steps", "num_train_epochs"}
LENGTHLESS_SCHEDULES = ("constant", "constant_with_warmup")
# Settings that would make a continuation or a card untrue: the one value accepted, and why.
FIXED = {
    "resume_from_checkpoint": (
        None,
        "A run continues from the last checkpoint in its own output_dir and from no other, so that its card stays "
        "true.",
    ),
    "save_only_model": (False, "A run continues with the state of its optimizer, which would not be saved."),
    "ignore_data_skip": (False, "A run that continues would train again on the rows it has seen."),
    "auto_find_batch_size": (False, "A step would have another number of rows than the settings say."),
    "load_best_model_at_end": (False, "The weights would be those of an earlier step, chosen by the test rows."),
}


@dataclass(frozen=True)
class Start:
    """One start of a run: where it began, and how it divides a step.

    Attributes:
        from_step: the step of the checkpoint it began at, 0 for a new run.
        per_device: rows of one micro-batch of one process.
        accumulation: micro-batches of a step.
        processes: how many.
        evaluation_batch: rows of an evaluation batch, over all processes.
        device: `cpu`, `cuda`, ...
        commit: of the code; None for an installed wheel.
    """

    from_step: int
    per_device: int
    accumulation: int
    processes: int
    evaluation_batch: int
    device: str
    commit: str | None

    @property
    def rows(self) -> int:
        """Rows of a step."""
        return self.per_device * self.accumulation * self.processes

    def cut(self) -> str:
        """The rows of a step and how they are divided, for an error."""
        return (
            f"{self.rows} (per_device_train_batch_size {self.per_device} x gradient_accumulation_steps "
            f"{self.accumulation} x processes {self.processes})"
        )


def prepare_config(given: Any, evaluate_first: bool) -> Any:
    """The trainer's configuration as a run needs it, without its own resuming and pushing.

    Raises:
        IfllmError: a setting of `FIXED` has another value.
    """
    for name, (accepted, reason) in FIXED.items():
        if getattr(given, name) != accepted:
            raise IfllmError(f"{name} cannot be set: {reason[0].lower()}{reason[1:]} Leave it out.")
    config = copy.copy(given)
    config.eval_on_start = evaluate_first
    # One push at the end, of the finished folder, instead of one a checkpoint.
    config.push_to_hub = False
    return config


def last_checkpoint(output_dir: Path) -> str | None:
    """The newest checkpoint that was written to its end: the Trainer writes its state last."""
    steps = [_step(path.parent) for path in output_dir.glob("checkpoint-*/trainer_state.json")]
    return str(output_dir / f"checkpoint-{max(steps)}") if steps else None


def check_setup(
    output_dir: Path, setup: dict[str, Any], config: Any, commit: str | None, is_cut_freely: bool, write: bool
) -> list[Start]:
    """Record a new run or a new start; refuse to continue another run, whose card would then be untrue.

    Args:
        setup: what is known of the run before its first step.
        config: the trainer's configuration.
        commit: of the code.
        is_cut_freely: whether as many rows per step may be divided among other micro-batches and processes.
        write: whether this process writes the record; every process reads it.

    Returns:
        The starts of the run, this one last.

    Raises:
        IfllmError: the folder holds a different run, or files that belong to no known run.
    """
    file, checkpoint = output_dir / SETUP, last_checkpoint(output_dir)
    now = Start(
        from_step=_step(Path(checkpoint)) if checkpoint else 0,
        per_device=config.train_batch_size,
        accumulation=config.gradient_accumulation_steps,
        processes=config.world_size,
        evaluation_batch=config.eval_batch_size * config.world_size,
        device=config.device.type,
        commit=commit,
    )
    run = json.loads(json.dumps({"setup": setup, "settings": _settings(config, setup)}))
    # Sharded weights belong to a number of processes, and the rows that an epoch drops depend on the batches.
    is_cut_freely &= not (config.dataloader_drop_last or any(run["settings"][flag] for flag in SHARDED))
    starts = []
    if not file.is_file() and (checkpoint or (output_dir / "README.md").exists()):
        what = "checkpoints" if checkpoint else "a README.md"
        raise IfllmError(
            f"{output_dir} holds {what} of something else (there is no {SETUP} with it). Choose another output_dir."
        )
    # Without a checkpoint and a result there is nothing yet that another run could spoil.
    if checkpoint or (output_dir / RESULTS).is_file():
        stored = read_json(file)
        starts = [Start(**start) for start in stored["starts"]]
        differing = _differing(stored, run)
        if starts[-1].cut() != now.cut() and not (is_cut_freely and starts[-1].rows == now.rows):
            differing.append(f"rows per step {starts[-1].cut()} -> {now.cut()}")
        if differing:
            what = "checkpoints" if checkpoint else "the result"
            raise IfllmError(
                f"{output_dir} holds {what} of another run ({', '.join(differing)}). Choose another output_dir, or "
                "delete it to start again."
            )
    # What an earlier start did after the checkpoint that this one begins at is lost.
    starts = [*(start for start in starts if start.from_step < now.from_step), now]
    if write:
        make_folder(output_dir)
        run["starts"] = [vars(start) for start in starts]
        write_atomically(file, json.dumps(run, indent=2) + "\n")
    return starts


def train(trainer: Any, checkpoint: str | None) -> None:
    """Run the steps that are left.

    Raises:
        IfllmError: more steps have been taken than are planned.
    """
    done, planned = _step(Path(checkpoint)) if checkpoint else 0, planned_steps(trainer)[1]
    if checkpoint is None or done < planned:
        trainer.train(resume_from_checkpoint=checkpoint)
        return
    if done > planned:
        raise IfllmError(
            f"{Path(checkpoint).parent} holds a run of {done} steps, and these settings ask for {planned}. Choose "
            "another output_dir, or delete it to start again."
        )
    # All steps are done, only the ending is missing. `Trainer.train` would take one step too many.
    trainer._load_from_checkpoint(checkpoint)
    trainer.state = type(trainer.state).load_from_json(f"{checkpoint}/trainer_state.json")


def planned_steps(trainer: Any) -> tuple[int, int]:
    """Optimizer steps in one epoch, and in the whole run."""
    args = trainer.args
    epoch = math.ceil(len(trainer.get_train_dataloader()) / args.gradient_accumulation_steps)
    return epoch, args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)


def progress(trainer: Any, start: Start) -> dict[str, int]:
    """How far a run has gone, in steps and in rows; each row counts once per epoch."""
    steps, steps_in_one_epoch = trainer.state.global_step, planned_steps(trainer)[0]
    # GRPO counts the answers to a prompt, not the prompts.
    repeated = getattr(trainer.args, "num_generations", 1) * getattr(trainer.args, "num_iterations", 1)

    def rows(steps: int) -> int:
        return min(math.ceil(steps * start.rows / repeated), len(trainer.train_dataset))

    epochs, rest = divmod(steps, steps_in_one_epoch)
    return {
        "steps": steps,
        "steps_in_one_epoch": steps_in_one_epoch,
        "rows_seen": epochs * rows(steps_in_one_epoch) + rows(rest),
        "rows_in_one_epoch": rows(steps_in_one_epoch),
    }


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _settings(config: Any, setup: dict[str, Any]) -> dict[str, Any]:
    """What defines the run besides the setup."""
    free = FREE | setup.keys()
    if config.lr_scheduler_type in LENGTHLESS_SCHEDULES and not 0 < config.warmup_steps < 1:
        free |= LENGTH
    settings = {name: value for name, value in json.loads(config.to_json_string()).items() if name not in free}
    return settings | _sharding()


def is_sharded() -> bool:
    """Whether each process of this run holds a part of the weights."""
    return any(_sharding().values())


def _sharding() -> dict[str, bool]:
    from accelerate.utils import parse_flag_from_env  # type: ignore[import-untyped]

    return {flag: parse_flag_from_env(flag) for flag in SHARDED}


def _differing(stored: dict[str, Any], run: dict[str, Any]) -> list[str]:
    pairs = [(key, stored["setup"].get(key), value) for key, value in run["setup"].items() if key not in FREE_IN_SETUP]
    # Another version of TRL has other settings; what it does not know cannot be compared.
    known = stored["settings"].keys() & run["settings"].keys()
    pairs += [(key, stored["settings"][key], run["settings"][key]) for key in sorted(known)]
    return [f"{key} {before!r} -> {after!r}" for key, before, after in pairs if before != after]
