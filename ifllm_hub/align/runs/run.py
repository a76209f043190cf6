"""What every training script does around its trainer: read flags, resume, evaluate, save, write the card, push."""

import json
import logging
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.policies import accelerator_available, load_policy, lora_config, merge_adapter, policy_origin
from ifllm_hub.align.runs.card import model_card
from ifllm_hub.align.runs.launch import PROGRESS, progress_callback
from ifllm_hub.align.runs.push import checkpoint_name, claim_target, model_name, push, without_paths
from ifllm_hub.align.runs.resume import RESULTS, check_setup, last_checkpoint, prepare_config, progress, train
from ifllm_hub.align.runs.saving import clear_write_errors, save_beside
from ifllm_hub.align.runs.script import paths_at_home
from ifllm_hub.dataset.load import commit_on_hub
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.files import write_atomically
from ifllm_hub.preferences.load import fingerprint
from ifllm_hub.terminal import given_words

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


logger = logging.getLogger(__name__)

PACKAGES = ("ifllm_hub", "torch", "transformers", "trl", "accelerate", "peft", "datasets")
# Of no meaning on another machine, or not to be shown.
PRIVATE_SETTINGS = {
    *("config", "dataset", "output_dir", "disable_tqdm"),
    *("push_to_hub", "hub_model_id", "hub_token", "force_push"),
}
# What the Trainer measures about itself.
TIMINGS = ("runtime", "samples_per_second", "steps_per_second", "num_tokens")


@dataclass
class DataArguments:
    """Which data to train on."""

    dataset: str = field(metadata={"help": "Folder laid out as the Hub repo, or Hub dataset id."})
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a Hub dataset; leave out for a folder."}
    )
    train_size: int | None = field(
        default=None, metadata={"help": "Train on at most this many rows, drawn with the seed; all if unset."}
    )
    test_size: int | None = field(
        default=None, metadata={"help": "Evaluate on at most this many test rows, drawn with the seed; all if unset."}
    )
    force_push: bool = field(
        default=False, metadata={"help": "With push_to_hub: replace all of a repo that holds something else."}
    )


@dataclass
class PolicyArguments(DataArguments):
    """Which language model to train, and which of its weights."""

    policy: str = field(default="smollm2-135m", metadata={"help": "tiny, smollm2-135m, a folder or a Hub model id."})
    lora: bool = field(default=False, metadata={"help": "Train a LoRA adapter on all linear layers, then merge it."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the LoRA adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the LoRA adapter; the update is alpha / r * BA."})
    lora_layers: int | None = field(
        default=None, metadata={"help": "Adapt only this many layers, the last ones; all if unset."}
    )


@dataclass(frozen=True)
class Stage:
    """What one script does that others do not.

    Attributes:
        name: `sft`, `kto`, `reward` or `grpo`.
        setup: what is known of the run before its first step, for `results.json` and the card; a continuation must
            have the same.
        build: the trainer for a configuration; it must be able to evaluate.
        save: write the weights and the tokenizer into a folder; every process calls it.
        is_cut_freely: whether the loss is the same however the rows of a step are cut into micro-batches and spread
            over processes, so that a continuation may cut them otherwise.
        measure: more results, once the trainer is done.
        metrics: which numbers of the trainer's evaluation to report; None for all.
        force_push: push also to a repo that holds something else.
    """

    name: str
    setup: dict[str, Any]
    build: Callable[[Any], Any]
    save: Callable[[Any, Path], None]
    is_cut_freely: bool
    measure: Callable[[Any], dict[str, Any]] = lambda trainer: {}
    metrics: tuple[str, ...] | None = None
    force_push: bool = False


def parse_arguments(
    arguments: type, configuration: type, argv: Sequence[str] | None = None, **defaults: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """Read the flags, and the recipe named by `--config` whose values they override, with TRL's parser.

    Without an accelerator `use_cpu` is on, `bf16` and activation checkpointing are off.

    Args:
        arguments: a dataclass of ours.
        configuration: the trainer's configuration class.
        defaults: values where neither the recipe nor a flag says anything.

    Returns:
        An instance of each, and the values that were given, by name.

    Raises:
        IfllmError: the recipe cannot be read, or a name or value in it or among the flags is not accepted.
        SystemExit: status 2, after a message on stderr, for a flag that argparse refuses itself.
    """
    import yaml
    from trl.scripts.utils import TrlParser

    words = given_words() if argv is None else list(argv)
    types: Any = (arguments, configuration)
    # The usage text of argparse would list some 200 flags before it says what was wrong.
    parser = TrlParser(types, usage="%(prog)s --config recipe.yaml [--flag value ...]", allow_abbrev=False)
    if not accelerator_available():
        defaults = {"use_cpu": True, "bf16": False, "activation_checkpointing": False} | defaults
    parser.set_defaults(**defaults)
    try:
        args, config = parser.parse_args_and_config(list(words))
        given = _given(words)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise IfllmError(f"The recipe or a flag is not accepted: {error} Correct it, or see --help.") from error
    values = config.to_dict() | asdict(paths_at_home(args))
    return args, config, {name: values[name] for name in sorted(given) if name in values}


def _given(words: list[str]) -> set[str]:
    """The names set by the recipe or by a flag, that a card may show."""
    import yaml

    names = {word[2:].partition("=")[0].replace("-", "_").removeprefix("no_") for word in words if word[:2] == "--"}
    if "--config" in words:
        names |= set(yaml.safe_load(Path(words[words.index("--config") + 1]).read_text()))
    return names - PRIVATE_SETTINGS


def run_stage(stage: Stage, config: Any, recipe: dict[str, Any]) -> dict[str, Any]:
    """Train, and leave a loadable, documented checkpoint in `config.output_dir`.

    The model is evaluated on the test split before the first and after the last step. A run that was interrupted
    continues from its last checkpoint in the same folder.

    Args:
        config: the trainer's configuration.
        recipe: the values given, for the card.

    Returns what `results.json` holds.

    Raises:
        IfllmError: what the stage raises; TRL refuses the configuration; a folder of another run, or one that cannot be
            written; the Hub refuses.
    """
    from pyarrow import ArrowException

    started = time.monotonic()
    output_dir = Path(str(config.output_dir))
    checkpoint = last_checkpoint(output_dir)
    completed_config = prepare_config(config, evaluate_first=checkpoint is None)
    setup = {"stage": stage.name, **stage.setup, "seed": config.seed}
    is_main = config.process_index == 0
    starts = check_setup(output_dir, setup, config, code_commit(), stage.is_cut_freely, write=is_main)
    name = checkpoint_name(stage.name, setup)
    repo_id = claim_target(config, setup, name, stage.force_push) if config.push_to_hub and is_main else None

    try:
        trainer = stage.build(completed_config)
    except ArrowException as error:
        raise damaged_copy(copies_folder(), error) from error
    except (TypeError, ValueError) as error:
        raise IfllmError(f"TRL does not accept this configuration: {error} Correct the recipe.") from error
    # TRL writes a card of its own with each checkpoint, over that of an earlier run of ours.
    trainer.create_model_card = lambda *args, **kwargs: None
    trainer.add_callback(progress_callback(output_dir / PROGRESS))
    if is_main:
        start = checkpoint or "the start"
        logger.info("%s: %d training rows, %s From %s", stage.name, setup["train_rows"], setup["data"], start)
        for split, rows in (("train", trainer.train_dataset), ("test", trainer.eval_dataset)):
            if left_out := setup[f"{split}_rows"] - len(rows):
                logger.info("Left out, as the prompt leaves no room for an answer: %d %s rows", left_out, split)
    with clear_write_errors(output_dir):
        train(trainer, checkpoint)
        after = trainer.evaluate()
        # `trainer_state.json` goes along with the weights, and has the best checkpoint by its path on this machine.
        trainer.state.best_model_checkpoint = without_paths(trainer.state.best_model_checkpoint)
        save_beside(lambda folder: stage.save(trainer, folder), trainer, output_dir)
    results = {
        "name": name,
        **setup,
        "recipe": recipe,
        "commit": starts[-1].commit,
        **progress(trainer, starts[-1]),
        **_outcome(trainer, after, stage.metrics),
        **stage.measure(trainer),
        "resumed_from": Path(checkpoint).name if checkpoint else None,
        "starts": [vars(start) for start in starts],
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "wall_seconds": round(time.monotonic() - started, 2),
    }
    results = without_paths(results)
    if is_main:
        write_atomically(output_dir / RESULTS, json.dumps(results, indent=2) + "\n")
        write_atomically(output_dir / "README.md", model_card(name, results))
    if repo_id is not None:
        push(config, output_dir, repo_id, stage.force_push)
    trainer.end()
    return results


def describe_data(args: DataArguments, data: "DatasetDict", commit: str | None) -> dict[str, Any]:
    """What a card says about the data."""
    return {
        "dataset": args.dataset,
        "dataset_on_hub": not Path(args.dataset).is_dir(),
        "dataset_revision": commit,
        "dataset_fingerprint": fingerprint(data["train"]),
        "test_fingerprint": fingerprint(data["test"]),
        "train_rows": len(data["train"]),
        "test_rows": len(data["test"]),
    }


def describe_policy(args: PolicyArguments) -> dict[str, Any]:
    """What a card says about the model before training."""
    origin = policy_origin(args.policy)
    return {
        "llm": model_name(args.policy),
        "model": args.policy,
        "base_model": origin.base_model,
        "weights": origin.weights,
        "license": origin.license,
        "lora": lora_settings(args),
    }


def lora_settings(args: PolicyArguments) -> dict[str, int | None] | None:
    """The adapter, for `results.json` and the card."""
    return {"r": args.lora_r, "alpha": args.lora_alpha, "layers": args.lora_layers} if args.lora else None


def chat_policy(policy: str, seed: int = 0) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load the policy, which must be able to chat.

    Raises:
        IfllmError: it cannot be loaded, or its tokenizer has no chat template or no padding token.
    """
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
    return model, tokenizer


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
    """What to say when shared data cannot be read."""
    return IfllmError(f"{folder} holds a damaged copy of the data ({first_line(error)}). Delete it, then start again.")


def peft_config(args: PolicyArguments, policy: "PreTrainedModel") -> Any:
    """The LoRA adapter asked for, or None."""
    return lora_config(policy, args.lora_r, args.lora_alpha, args.lora_layers) if args.lora else None


def save_policy(trainer: Any, args: PolicyArguments, output_dir: Path) -> None:
    """Save weights and tokenizer; every process calls this, as sharded weights are gathered from all of them.

    With LoRA the merged weights are saved, so that a reader needs neither PEFT nor the base model, and the adapter
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


def dataset_commit(args: DataArguments) -> str | None:
    """The commit of a Hub dataset that its revision means now; None for a folder, as given where the Hub is offline.

    Raises:
        IfllmError: a folder with a revision; there is no such dataset, or the Hub cannot be reached.
    """
    from huggingface_hub import is_offline_mode

    is_folder = Path(args.dataset).is_dir()
    if is_folder and args.dataset_revision is not None:
        raise IfllmError(
            f"{args.dataset} is a folder and has no revision {args.dataset_revision!r}. Leave the revision out."
        )
    if is_folder or is_offline_mode():
        return args.dataset_revision
    return commit_on_hub(args.dataset, args.dataset_revision)


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
    # A continued run has this from its checkpoint.
    before = next(entry for entry in trainer.state.log_history if "eval_loss" in entry)
    names = [name for name in after if name in before and name.startswith("eval_") and not name.endswith(TIMINGS)]
    if metrics is not None:
        names = [f"eval_{name}" for name in metrics]
    # A reward function that knows nothing of any answer has no mean: NaN, or None in the history of a step.
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
