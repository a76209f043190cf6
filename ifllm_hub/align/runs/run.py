"""What every training script does around its trainer: resume, evaluate, save, write the card, push."""

import json
import logging
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ifllm_hub.align.policies import load_policy, lora_config, merge_adapter
from ifllm_hub.align.runs.arguments import DataArguments, PolicyArguments
from ifllm_hub.align.runs.card import model_card
from ifllm_hub.align.runs.launch import PROGRESS, progress_callback
from ifllm_hub.align.runs.push import checkpoint_name, claim_target, push, without_paths
from ifllm_hub.align.runs.results import RESULTS, Results
from ifllm_hub.align.runs.resume import check_setup, last_checkpoint, prepare_config, progress, train
from ifllm_hub.align.runs.saving import clear_write_errors, save_beside
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.files import write_atomically

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

PACKAGES = ("ifllm_hub", "torch", "transformers", "trl", "accelerate", "peft", "datasets")
# What the Trainer measures about itself.
TIMINGS = ("runtime", "samples_per_second", "steps_per_second", "num_tokens")


class Run:
    """One start of a training run, which leaves a loadable, documented checkpoint in `config.output_dir`.

    The model is evaluated on the test split before the first and after the last step. A run that was interrupted
    continues from its last checkpoint in the same folder.

    Attributes:
        config: the configuration to give to the trainer: without its own resuming and pushing.
    """

    def __init__(
        self,
        stage: str,
        setup: dict[str, Any],
        args: DataArguments,
        config: Any,
        recipe: dict[str, Any],
        *,
        is_cut_freely: bool,
    ) -> None:
        """Check the folder and the repo to push to, before hours go into training.

        Args:
            stage: `sft`, `dpo`, `kto`, `grpo` or `reward`.
            setup: what is known of the run before its first step, for `results.json` and the card; a continuation
                must have the same.
            args: which data, and whether to push to a repo that holds something else.
            config: the trainer's configuration.
            recipe: the values given, for the card.
            is_cut_freely: whether the loss is the same however the rows of a step are divided among micro-batches and
                processes, so that a continuation may divide them differently.

        Raises:
            IfllmError: a setting is not accepted, the folder holds another run or cannot be written, or the Hub
                refuses.
        """
        self._started = time.monotonic()
        self._output_dir = Path(str(config.output_dir))
        self._checkpoint = last_checkpoint(self._output_dir)
        self.config = prepare_config(config, evaluate_first=self._checkpoint is None)
        self._setup = {"stage": stage, **setup, "seed": config.seed}
        self._given, self._recipe, self._force_push = config, recipe, args.force_push
        self._is_main = config.process_index == 0
        self._starts = check_setup(
            self._output_dir, self._setup, config, code_commit(), is_cut_freely, write=self._is_main
        )
        self._name = checkpoint_name(stage, self._setup)
        self._repo_id = None
        if config.push_to_hub and self._is_main:
            self._repo_id = claim_target(config, self._setup, self._name, args.force_push)

    @contextmanager
    def building(self) -> Iterator[None]:
        """Turn a failure to build the trainer into one sentence.

        Raises:
            IfllmError: TRL refuses the configuration, or shared data in the cache are damaged.
        """
        from pyarrow import ArrowException

        try:
            yield
        except ArrowException as error:
            raise damaged_copy(copies_folder(), error) from error
        except (TypeError, ValueError) as error:
            raise IfllmError(f"TRL does not accept this configuration: {error} Correct the recipe.") from error

    def train(self, trainer: Any) -> None:
        """Take the steps that are left, then evaluate.

        Raises:
            IfllmError: more steps have been taken than are planned, or the folder cannot be written.
        """
        # TRL writes a card of its own with each checkpoint, which would replace that of an earlier run.
        trainer.create_model_card = lambda *args, **kwargs: None
        trainer.add_callback(progress_callback(self._output_dir / PROGRESS))
        if self._is_main:
            self._log_start(trainer)
        with clear_write_errors(self._output_dir):
            train(trainer, self._checkpoint)
            self._after = trainer.evaluate()

    def save_and_push(
        self,
        trainer: Any,
        save: Callable[[Path], None],
        *,
        metrics: tuple[str, ...] | None = None,
        measured: dict[str, Any] | None = None,
    ) -> Results:
        """Save the weights, the results and the card, and push them if the configuration says so.

        Args:
            save: writes the weights and the tokenizer into a folder; every process calls it.
            metrics: which numbers of the trainer's evaluation to report; None for all.
            measured: more results.

        Returns what `results.json` holds.

        Raises:
            IfllmError: the folder cannot be written, or the Hub refuses.
        """
        with clear_write_errors(self._output_dir):
            # `trainer_state.json` is saved with the weights and names the best checkpoint by its path on this machine.
            trainer.state.best_model_checkpoint = without_paths(trainer.state.best_model_checkpoint)
            save_beside(save, trainer, self._output_dir)
        measurements = {
            "name": self._name,
            **self._setup,
            "recipe": self._recipe,
            "commit": self._starts[-1].commit,
            **progress(trainer, self._starts[-1]),
            **_outcome(trainer, self._after, metrics),
            **(measured or {}),
            "resumed_from": Path(self._checkpoint).name if self._checkpoint else None,
            "starts": [vars(start) for start in self._starts],
            "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
            "wall_seconds": round(time.monotonic() - self._started, 2),
        }
        results: Results = without_paths(measurements)
        if self._is_main:
            write_atomically(self._output_dir / RESULTS, json.dumps(results, indent=2) + "\n")
            write_atomically(self._output_dir / "README.md", model_card(self._name, results))
        if self._repo_id is not None:
            push(self._given, self._output_dir, self._repo_id, self._force_push)
        trainer.end()
        return results

    def _log_start(self, trainer: Any) -> None:
        setup, start = self._setup, self._checkpoint or "the start"
        logger.info("%s: %d training rows, %s From %s", setup["stage"], setup["train_rows"], setup["data"], start)
        for split, rows in (("train", trainer.train_dataset), ("test", trainer.eval_dataset)):
            if left_out := setup[f"{split}_rows"] - len(rows):
                logger.info("Left out, as the prompt leaves no room for an answer: %d %s rows", left_out, split)


def chat_policy(
    policy: str, seed: int = 0, dtype: Literal["float32", "bfloat16"] = "float32"
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load the policy, which must be able to chat, with weights of this type.

    Raises:
        IfllmError: none is named, it cannot be loaded, or its tokenizer has no chat template or no padding token.
    """
    if not policy:
        raise IfllmError("No policy is named. Name a model, or the folder of an earlier stage, with --policy.")
    model, tokenizer = load_policy(policy, seed=seed)
    if tokenizer.chat_template is None:
        raise IfllmError(
            f"The policy {policy!r} has no chat template, and the data are conversations. Take its instruct "
            "version, or save a template with its tokenizer."
        )
    if tokenizer.pad_token is None:
        raise IfllmError(
            f"The tokenizer of {policy!r} has neither a padding nor an end token. Save it with a `pad_token`."
        )
    return (model if dtype == "float32" else model.bfloat16()), tokenizer


def copies_folder() -> Path:
    """The folder of the `datasets` cache in which processes of a machine share data.

    Raises:
        IfllmError: it cannot be written.
    """
    from datasets import config

    folder = Path(config.HF_DATASETS_CACHE) / "ifllm_hub"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = None if os.access(folder, os.W_OK) else "no permission"
    except OSError as error:
        reason = error.strerror
    if reason:
        raise IfllmError(f"The cache {folder} cannot be written ({reason}). Set HF_HOME to a folder you may write to.")
    return folder


def damaged_copy(folder: Path, error: Exception) -> IfllmError:
    """The error for shared data that cannot be read."""
    return IfllmError(f"{folder} holds a damaged copy of the data ({first_line(error)}). Delete it, then start again.")


def peft_config(args: PolicyArguments, policy: "PreTrainedModel") -> Any:
    """The LoRA adapter asked for, or None."""
    return lora_config(policy, args.lora_r, args.lora_alpha, args.lora_layers) if args.lora else None


def save_policy(trainer: Any, args: PolicyArguments, output_dir: Path) -> None:
    """Save weights and tokenizer; every process calls this, as sharded weights are gathered from all of them.

    With LoRA the merged weights are saved, so that loading them needs neither PEFT nor the base model, and the adapter
    alone in `adapter/`.
    """
    trainer.save_state()
    if not args.lora:
        trainer.save_model(str(output_dir))
        return
    adapter = output_dir / "adapter"
    trainer.save_model(str(adapter))
    if trainer.is_world_process_zero():
        merge_adapter(args.policy, trainer.args.seed, adapter, output_dir)


def code_commit() -> str | None:
    """The commit of this package's checkout, with `-dirty` where files differ from it; None for an installed wheel."""
    folder = Path(__file__).parents[3]
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git here
        return None
    return done.stdout.strip() or None


def _outcome(trainer: Any, after: dict[str, float], metrics: tuple[str, ...] | None) -> dict[str, Any]:
    args = trainer.args
    # A continued run has this entry from its checkpoint.
    before = next(entry for entry in trainer.state.log_history if "eval_loss" in entry)
    names = [name for name in after if name in before and name.startswith("eval_") and not name.endswith(TIMINGS)]
    if metrics is not None:
        names = [f"eval_{name}" for name in metrics]
    # A reward function that scored no answer has no mean: NaN, or None in the history of a step.
    known = [name for name in names if all(math.isfinite(_number(entry[name])) for entry in (before, after))]
    return {
        "rows_after_length_filter": len(trainer.train_dataset),
        "test_rows_after_length_filter": len(trainer.eval_dataset),
        "eval_before": {name.removeprefix("eval_"): before[name] for name in known},
        "eval_after": {name.removeprefix("eval_"): after[name] for name in known},
        "processes": args.world_size,
        "device": args.device.type,
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else value
