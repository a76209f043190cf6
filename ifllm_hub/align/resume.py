"""How a training run goes on where it was interrupted, and refuses to go on with another one."""

import copy
import json
import math
from pathlib import Path
from typing import Any

from ifllm_hub.errors import IfllmError
from ifllm_hub.files import write_atomically

SETUP = "setup.json"
RESULTS = "results.json"
# Settings that may differ between a run and its continuation.
FREE_ON_RESUME = {"dataset", "dataset_revision", "test_rows", "commit", "recipe"}


def completed(given: Any, evaluate_first: bool) -> Any:
    """The trainer's configuration as a run needs it, without its own resuming and pushing.

    Raises:
        IfllmError: `resume_from_checkpoint` is set.
    """
    if given.resume_from_checkpoint is not None:
        raise IfllmError(
            "resume_from_checkpoint cannot be set: a run continues from the last checkpoint in its own output_dir and "
            "from no other, so that its card stays true. Leave it out."
        )
    config = copy.copy(given)
    config.eval_on_start = evaluate_first
    # One push at the end, of the finished folder, instead of one a checkpoint.
    config.push_to_hub = False
    return config


def last_checkpoint(output_dir: Path) -> str | None:
    """The newest checkpoint that was written to its end: the Trainer writes its state last."""
    steps = [int(path.parent.name.rpartition("-")[2]) for path in output_dir.glob("checkpoint-*/trainer_state.json")]
    return str(output_dir / f"checkpoint-{max(steps)}") if steps else None


def claim(output_dir: Path, setup: dict[str, Any], checkpoint: str | None, write: bool) -> None:
    """Refuse to continue a run of another setup, whose card would then claim what is not so; note a new one.

    Raises:
        IfllmError: the folder holds checkpoints of a run that differs.
    """
    file = output_dir / SETUP
    if checkpoint:
        stored = json.loads(file.read_text()) if file.is_file() else setup
        differing = [key for key in setup if key not in FREE_ON_RESUME and stored.get(key) != setup[key]]
        if differing:
            changes = ", ".join(f"{key} {stored.get(key)!r} -> {setup[key]!r}" for key in differing)
            raise IfllmError(
                f"{output_dir} holds checkpoints of another run ({changes}). Choose another output_dir, or delete it "
                "to start again."
            )
    elif write:
        output_dir.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(setup, indent=2) + "\n")


def train(trainer: Any, checkpoint: str | None) -> None:
    """Run the steps that are left."""
    if checkpoint and int(checkpoint.rpartition("-")[2]) >= planned_steps(trainer)[1]:
        # All steps are done, only the ending is missing. `Trainer.train` would take one step too many.
        trainer._load_from_checkpoint(checkpoint)
        trainer.state = type(trainer.state).load_from_json(f"{checkpoint}/trainer_state.json")
    else:
        trainer.train(resume_from_checkpoint=checkpoint)


def planned_steps(trainer: Any) -> tuple[int, int]:
    """Optimizer steps in one epoch, and in the whole run."""
    args = trainer.args
    epoch = math.ceil(len(trainer.get_train_dataloader()) / args.gradient_accumulation_steps)
    return epoch, args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)
