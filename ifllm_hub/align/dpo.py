"""Preference optimisation with TRL's own `DPOTrainer`: what `training/dpo.py` runs, one function a step.

The loss is the robust DPO of https://huggingface.co/papers/2403.00409 plus the likelihood of the chosen answer, as in
IFLLM (https://huggingface.co/papers/2606.20482). TRL takes one flip probability for all pairs, so it is their mean.
"""

import copy
import json
import logging
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.card import model_card
from ifllm_hub.align.launch import PROGRESS, progress_callback
from ifllm_hub.align.policies import accelerator_available, load_policy, lora_config, merge_adapter, policy_origin
from ifllm_hub.align.preferences import fingerprint, hub_commit, limit_test, load_preferences
from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from datasets import DatasetDict
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

logger = logging.getLogger(__name__)

RESULTS = "results.json"
SETUP = "setup.json"
METRICS = ("loss", *(f"rewards/{name}" for name in ("accuracies", "margins", "chosen", "rejected")))
PACKAGES = ("ifllm_hub", "torch", "transformers", "trl", "accelerate", "peft", "datasets")
# Settings that may differ between a run and its continuation.
FREE_ON_RESUME = {"dataset", "dataset_revision", "test_pairs"}


@dataclass
class AlignArguments:
    """What to align and on which pairs; everything else is TRL's `DPOConfig`."""

    dataset: str = field(metadata={"help": "Folder laid out as the Hub repo, or Hub dataset id, with `preferences`."})
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a Hub dataset; leave out for a folder."}
    )
    label_source: str = field(default="forest", metadata={"help": "Whose labels to train on."})
    policy: str = field(default="smollm2-135m", metadata={"help": "tiny, smollm2-135m, a folder or a Hub model id."})
    test_size: int | None = field(
        default=None, metadata={"help": "Evaluate on at most this many test pairs, drawn with the seed; all if unset."}
    )
    lora: bool = field(default=False, metadata={"help": "Train a LoRA adapter on all linear layers, then merge it."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the LoRA adapter."})
    lora_alpha: int = field(default=32, metadata={"help": "Scale of the LoRA adapter; the update is alpha / r * BA."})


def parse_arguments(argv: Sequence[str] | None = None) -> "tuple[AlignArguments, DPOConfig]":
    """Read the flags, and the recipe named by `--config` whose values they override, with TRL's parser.

    Defaults that differ from TRL's: the loss is robust + sft; `label_smoothing` is None, which `run_dpo` fills in; and
    without an accelerator `use_cpu` is on, `bf16` and activation checkpointing are off.

    Raises:
        IfllmError: the recipe cannot be read, or a name or value in it or among the flags is not accepted.
        SystemExit: status 2, after a message on stderr, for a flag that argparse refuses itself.
    """
    import yaml
    from trl.scripts.utils import TrlParser
    from trl.trainer.dpo_config import DPOConfig

    types: Any = (AlignArguments, DPOConfig)
    # The usage text of argparse would list some 200 flags before it says what was wrong.
    parser = TrlParser(types, usage="%(prog)s --config recipe.yaml [--flag value ...]")
    parser.set_defaults(loss_type=["robust", "sft"], label_smoothing=None)
    if not accelerator_available():
        parser.set_defaults(use_cpu=True, bf16=False, activation_checkpointing=False)
    try:
        align_args, dpo_args = parser.parse_args_and_config(argv)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise IfllmError(f"The recipe or a flag is not accepted: {error} Correct it, or see --help.") from error
    return align_args, dpo_args


def run_dpo(align_args: AlignArguments, dpo_args: "DPOConfig") -> dict[str, Any]:
    """Train a policy on preference pairs and leave a loadable, documented checkpoint in `dpo_args.output_dir`.

    The policy is evaluated on the test split before the first and after the last step. A run that was interrupted
    continues from its last checkpoint in the same folder. With LoRA the merged weights are saved, so that a reader
    needs neither PEFT nor the base model, and the adapter alone stands in `adapter/`.

    Args:
        align_args: the data and the policy.
        dpo_args: TRL's configuration. `label_smoothing` None means the mean flip probability of the training pairs;
            a number, also TRL's default 0.0, is taken as it is.

    Returns what `results.json` holds.

    Raises:
        IfllmError: bad data, an unknown policy, a flip probability outside [0, 0.5), or a folder of another run.
    """
    started = time.monotonic()
    output_dir = Path(str(dpo_args.output_dir))
    preferences = load_preferences(align_args.dataset, align_args.label_source, align_args.dataset_revision)
    preferences = limit_test(preferences, align_args.test_size, dpo_args.seed)
    checkpoint = _last_checkpoint(output_dir)
    config = _complete(dpo_args, preferences, evaluate_first=checkpoint is None)
    setup = _describe(align_args, config, preferences, smoothing_given=dpo_args.label_smoothing is not None)
    is_main = config.process_index == 0
    _claim(output_dir, setup, checkpoint, write=is_main)
    repo_id = _create_repo(config, output_dir) if dpo_args.push_to_hub and is_main else None

    trainer = build_trainer(align_args, config, preferences)
    if is_main:
        smoothing = f"label_smoothing {config.label_smoothing:.4f} ({setup['label_smoothing_origin']})"
        logger.info("%d training pairs, %s, from %s", setup["train_pairs"], smoothing, checkpoint or "the start")
    _train(trainer, checkpoint)
    after = trainer.evaluate()
    _save(trainer, align_args, output_dir)
    results = {
        **setup,
        **_outcome(trainer, after),
        "resumed_from": Path(checkpoint).name if checkpoint else None,
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "wall_seconds": round(time.monotonic() - started, 2),
    }
    if is_main:
        (output_dir / RESULTS).write_text(json.dumps(results, indent=2) + "\n")
        (output_dir / "README.md").write_text(model_card(output_dir.name, results))
    if repo_id is not None:
        _push(config, output_dir, repo_id)
    trainer.end()
    return results


def build_trainer(align_args: AlignArguments, config: "DPOConfig", preferences: "DatasetDict") -> "DPOTrainer":
    """TRL's `DPOTrainer` for a completed configuration, with an explicit reference model.

    Raises:
        IfllmError: the policy cannot be loaded or has no chat template, or no prompt fits into `max_length` tokens.
    """
    from trl.trainer.dpo_trainer import DPOTrainer

    model, tokenizer = load_policy(align_args.policy, seed=config.seed)
    if tokenizer.chat_template is None:
        raise IfllmError(
            f"The policy {align_args.policy!r} has no chat template, and the pairs are conversations. Take its "
            "instruct version, or save a template with its tokenizer."
        )
    # Left to itself TRL reloads the reference by name, and a policy made here has none. With LoRA the reference is the
    # policy without its adapter; precomputed, it is the policy before the first step.
    reference = None
    if not align_args.lora and not config.precompute_ref_log_probs:
        reference, _ = load_policy(align_args.policy, seed=config.seed)
    try:
        trainer = DPOTrainer(
            model=model,
            ref_model=reference,
            args=config,
            train_dataset=preferences["train"],
            eval_dataset=preferences["test"],
            processing_class=tokenizer,
            peft_config=lora_config(align_args.lora_r, align_args.lora_alpha) if align_args.lora else None,
            callbacks=[progress_callback(Path(str(config.output_dir)) / PROGRESS)],
        )
    except ValueError as error:
        raise IfllmError(f"TRL does not accept this configuration: {error} Correct the recipe.") from error
    prepared: Any = (trainer.train_dataset, trainer.eval_dataset)
    if any(len(split) == 0 for split in prepared):
        raise IfllmError(
            f"Every prompt of a split has max_length = {config.max_length} tokens or more, so nothing is left to train "
            "or to evaluate on. Raise max_length."
        )
    return trainer


def _complete(dpo_args: "DPOConfig", preferences: "DatasetDict", evaluate_first: bool) -> "DPOConfig":
    if dpo_args.resume_from_checkpoint is not None:
        raise IfllmError(
            "resume_from_checkpoint cannot be set: a run continues from the last checkpoint in its own output_dir and "
            "from no other, so that its card stays true. Leave it out."
        )
    config = copy.copy(dpo_args)
    config.eval_on_start = evaluate_first
    # One push at the end, of the finished folder, instead of one a checkpoint.
    config.push_to_hub = False
    if config.label_smoothing is None:
        flips = preferences["train"]["flip_prob"]
        config.label_smoothing = sum(flips) / len(flips) if "robust" in config.loss_type else 0.0
    if not 0 <= config.label_smoothing < 0.5:
        raise IfllmError(
            f"label_smoothing is {config.label_smoothing}, but as a flip probability it must lie in [0, 0.5). Correct "
            "the recipe, or leave it out to use the mean of the pairs."
        )
    return config


def _describe(
    align_args: AlignArguments, config: "DPOConfig", preferences: "DatasetDict", smoothing_given: bool
) -> dict[str, Any]:
    """Everything about a run that is known before its first step."""
    origin = policy_origin(align_args.policy)
    return {
        "policy": align_args.policy,
        "base_model": origin.base_model,
        "policy_weights": origin.weights,
        "license": origin.license,
        "dataset": align_args.dataset,
        "dataset_on_hub": not Path(align_args.dataset).is_dir(),
        "dataset_revision": hub_commit(preferences["train"]) or align_args.dataset_revision,
        "dataset_fingerprint": fingerprint(preferences["train"]),
        "label_source": align_args.label_source,
        "train_pairs": len(preferences["train"]),
        "test_pairs": len(preferences["test"]),
        "label_smoothing": config.label_smoothing,
        "label_smoothing_origin": "set by the recipe" if smoothing_given else "mean flip_prob of the training pairs",
        "loss_type": list(config.loss_type),
        "loss_weights": list(config.loss_weights or [1.0] * len(config.loss_type)),
        "beta": config.beta,
        "learning_rate": config.learning_rate,
        "max_length": config.max_length,
        "lora": {"r": align_args.lora_r, "alpha": align_args.lora_alpha} if align_args.lora else None,
        "seed": config.seed,
    }


def _last_checkpoint(output_dir: Path) -> str | None:
    """The newest checkpoint that was written to its end: the Trainer writes its state last."""
    steps = [int(path.parent.name.rpartition("-")[2]) for path in output_dir.glob("checkpoint-*/trainer_state.json")]
    return str(output_dir / f"checkpoint-{max(steps)}") if steps else None


def _claim(output_dir: Path, setup: dict[str, Any], checkpoint: str | None, write: bool) -> None:
    """Refuse to continue a run of another setup, whose card would then claim what is not so; note a new one."""
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
        file.write_text(json.dumps(setup, indent=2) + "\n")


def _train(trainer: "DPOTrainer", checkpoint: str | None) -> None:
    if checkpoint and int(checkpoint.rpartition("-")[2]) >= _planned_steps(trainer)[1]:
        # All steps are done, only the ending is missing. `Trainer.train` would take one step too many.
        trainer._load_from_checkpoint(checkpoint)
        trainer.state = type(trainer.state).load_from_json(f"{checkpoint}/trainer_state.json")
    else:
        trainer.train(resume_from_checkpoint=checkpoint)


def _planned_steps(trainer: "DPOTrainer") -> tuple[int, int]:
    """Optimizer steps in one epoch, and in the whole run."""
    args = trainer.args
    epoch = math.ceil(len(trainer.get_train_dataloader()) / args.gradient_accumulation_steps)
    return epoch, args.max_steps if args.max_steps > 0 else math.ceil(args.num_train_epochs * epoch)


def _save(trainer: "DPOTrainer", align_args: AlignArguments, output_dir: Path) -> None:
    """Save weights and tokenizer; every process calls this, as sharded weights are gathered from all of them."""
    trainer.save_state()
    if not align_args.lora:
        trainer.save_model(str(output_dir))
        return
    adapter = output_dir / "adapter"
    trainer.save_model(str(adapter))
    if trainer.is_world_process_zero():
        merge_adapter(align_args.policy, trainer.args.seed, adapter, output_dir)


def _outcome(trainer: "DPOTrainer", after: dict[str, float]) -> dict[str, Any]:
    args: Any = trainer.args
    pairs: Any = trainer.train_dataset
    # A continued run has this from its checkpoint.
    first = next(entry for entry in trainer.state.log_history if "eval_loss" in entry)
    completions = (max(len(c), len(r)) for c, r in zip(pairs["chosen_ids"], pairs["rejected_ids"], strict=True))
    lengths = [len(p) + completion for p, completion in zip(pairs["prompt_ids"], completions, strict=True)]
    return {
        "pairs_after_length_filter": len(pairs),
        "pairs_truncated": 0 if args.max_length is None else sum(length > args.max_length for length in lengths),
        "steps": trainer.state.global_step,
        "steps_in_one_epoch": _planned_steps(trainer)[0],
        "eval_before": {name: first[f"eval_{name}"] for name in METRICS},
        "eval_after": {name: after[f"eval_{name}"] for name in METRICS},
        "processes": args.world_size,
        "device": args.device.type,
    }


def _create_repo(config: "DPOConfig", output_dir: Path) -> str:
    """Make sure of the right to push before hours go into training."""
    from huggingface_hub import create_repo

    name = config.hub_model_id or output_dir.name
    try:
        repo = create_repo(name, token=config.hub_token, private=config.hub_private_repo, exist_ok=True)
    except (OSError, ValueError) as error:
        raise IfllmError(
            f"The model repo {name!r} cannot be created on the Hub: {error} Use `hf auth login`, or no push_to_hub."
        ) from error
    return str(repo.repo_id)


def _push(config: "DPOConfig", output_dir: Path, repo_id: str) -> None:
    from huggingface_hub import upload_folder

    try:
        upload_folder(
            repo_id=repo_id,
            folder_path=output_dir,
            token=config.hub_token,
            commit_message="Upload the aligned policy",
            # Checkpoints hold optimizer states; the .bin file is a pickle of the arguments.
            ignore_patterns=["checkpoint-*/**", "*.bin", "*.log", PROGRESS, SETUP],
        )
    except OSError as error:
        raise IfllmError(
            f"The run is complete in {output_dir}, but not pushed to {repo_id}: {error} Start it again to push it."
        ) from error
