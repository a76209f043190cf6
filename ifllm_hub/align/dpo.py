"""Preference optimisation with `FlipProbDPOTrainer`: what `training/dpo.py` runs, one function a step.

The loss is the robust DPO of https://huggingface.co/papers/2403.00409 with a flip probability for each pair, plus the
likelihood of the chosen answer, as in IFLLM (https://huggingface.co/papers/2606.20482).
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.card import model_card
from ifllm_hub.align.history import History
from ifllm_hub.align.launch import PROGRESS, progress_callback
from ifllm_hub.align.policies import load_policy, policy_origin
from ifllm_hub.align.preferences import fingerprint, hub_commit, limited, load_preferences
from ifllm_hub.align.quirks import ReferenceQuirks, cut_answers, quirky_pairs, reference_policy
from ifllm_hub.align.run import (
    PolicyArguments,
    circumstances,
    claim,
    completed,
    create_repo,
    document,
    last_checkpoint,
    lora_settings,
    peft_config,
    planned_steps,
    push,
    save_policy,
    train,
)
from ifllm_hub.align.run import parse_arguments as parse_stage
from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from datasets import DatasetDict

    from ifllm_hub.align.trainer import FlipProbDPOConfig, FlipProbDPOTrainer

logger = logging.getLogger(__name__)

METRICS = ("loss", "nll", *(f"rewards/{name}" for name in ("accuracies", "margins", "chosen", "rejected")))


@dataclass
class AlignArguments(ReferenceQuirks, PolicyArguments):
    """What to align and on which pairs; everything else is the `FlipProbDPOConfig` of the trainer."""

    label_source: str = field(default="forest", metadata={"help": "Whose labels to train on."})
    history: History = field(default="none", metadata={"help": "What prompts show of the earlier turns."})
    same_pairs: list[str] = field(
        default_factory=list, metadata={"help": "Keep only the pairs that all of these label sources have."}
    )


def parse_arguments(argv: Sequence[str] | None = None) -> "tuple[AlignArguments, FlipProbDPOConfig]":
    """Read the flags, and the recipe named by `--config` whose values they override, with TRL's parser.

    Defaults that differ from TRL's: `label_smoothing` is None, so that each pair has its own flip probability; and
    without an accelerator `use_cpu` is on, `bf16` and activation checkpointing are off.

    Raises:
        IfllmError: the recipe cannot be read, or a name or value in it or among the flags is not accepted.
        SystemExit: status 2, after a message on stderr, for a flag that argparse refuses itself.
    """
    from ifllm_hub.align.trainer import FlipProbDPOConfig

    align_args, dpo_args, _ = parse_stage(AlignArguments, FlipProbDPOConfig, argv, label_smoothing=None)
    return align_args, dpo_args


def run_dpo(align_args: AlignArguments, dpo_args: "FlipProbDPOConfig") -> dict[str, Any]:
    """Train a policy on preference pairs and leave a loadable, documented checkpoint in `dpo_args.output_dir`.

    The policy is evaluated on the test split before the first and after the last step. A run that was interrupted
    continues from its last checkpoint in the same folder. With LoRA the merged weights are saved, so that a reader
    needs neither PEFT nor the base model, and the adapter alone stands in `adapter/`.

    Args:
        align_args: the data and the policy.
        dpo_args: the trainer's configuration. `label_smoothing` None means the flip probability of each pair; a
            number, also TRL's default 0.0, is taken for every pair instead, of both splits.

    Returns what `results.json` holds.

    Raises:
        IfllmError: bad data, an unknown policy, a flip probability outside [0, 0.5), or a folder of another run.
    """
    started = time.monotonic()
    output_dir = Path(str(dpo_args.output_dir))
    dataset, revision = align_args.dataset, align_args.dataset_revision
    preferences = load_preferences(
        dataset, align_args.label_source, revision, history=align_args.history, same_pairs=align_args.same_pairs
    )
    preferences = quirky_pairs(preferences, align_args, align_args.label_source, dataset, revision)
    preferences = limited(preferences, dpo_args.seed, align_args.train_size, align_args.test_size)
    checkpoint = last_checkpoint(output_dir)
    config = _complete(dpo_args, evaluate_first=checkpoint is None)
    setup = _describe(align_args, dpo_args, preferences)
    is_main = config.process_index == 0
    claim(output_dir, setup, checkpoint, write=is_main)
    repo_id = create_repo(config, output_dir) if dpo_args.push_to_hub and is_main else None

    trainer = build_trainer(align_args, config, _with_flip_prob(preferences, dpo_args.label_smoothing))
    if is_main:
        flips = f"flip probability {setup['flip_prob_mean']:.4f} ({setup['flip_prob_origin']})"
        logger.info("%d training pairs, %s, from %s", setup["train_pairs"], flips, checkpoint or "the start")
    train(trainer, checkpoint)
    after = trainer.evaluate()
    save_policy(trainer, align_args, output_dir)
    results = {**setup, **_outcome(trainer, after), **circumstances(checkpoint, started)}
    if is_main:
        document(output_dir, results, model_card)
    if repo_id is not None:
        push(config, output_dir, repo_id)
    trainer.end()
    return results


def build_trainer(
    align_args: AlignArguments, config: "FlipProbDPOConfig", preferences: "DatasetDict"
) -> "FlipProbDPOTrainer":
    """The trainer for a completed configuration, with an explicit reference model.

    Raises:
        IfllmError: the policy cannot be loaded or has no chat template, a setting is not defined for the loss, or no
            prompt fits into `max_length` tokens.
    """
    from ifllm_hub.align.trainer import FlipProbDPOTrainer

    model, tokenizer = load_policy(align_args.policy, seed=config.seed)
    if tokenizer.chat_template is None:
        raise IfllmError(
            f"The policy {align_args.policy!r} has no chat template, and the pairs are conversations. Take its "
            "instruct version, or save a template with its tokenizer."
        )
    # Left to itself TRL reloads the reference by name, and a policy made here has none. With LoRA the reference is the
    # policy without its adapter; precomputed, it is the policy before the first step.
    reference = None
    reference_name = reference_policy(align_args.policy, align_args, align_args.label_source)
    if not align_args.lora and not config.precompute_ref_log_probs:
        reference, _ = load_policy(reference_name, seed=config.seed)
    elif reference_name != align_args.policy or align_args.cut_answers:
        raise IfllmError(
            "base_reference and cut_answers need the reference model while training. Leave out lora and "
            "precompute_ref_log_probs."
        )
    if config.precompute_ref_log_probs and config.world_size > 1:
        preferences = _on_disk(preferences)
    try:
        trainer = FlipProbDPOTrainer(
            model=model,
            ref_model=reference,
            args=config,
            train_dataset=preferences["train"],
            eval_dataset=preferences["test"],
            processing_class=tokenizer,
            peft_config=peft_config(align_args, model),
            callbacks=[progress_callback(Path(str(config.output_dir)) / PROGRESS)],
        )
    except ValueError as error:
        raise IfllmError(f"TRL does not accept this configuration: {error} Correct the recipe.") from error
    if align_args.cut_answers:
        trainer.train_dataset = cut_answers(trainer.train_dataset, tokenizer)
        trainer.eval_dataset = cut_answers(trainer.eval_dataset, tokenizer)
    prepared: Any = (trainer.train_dataset, trainer.eval_dataset)
    if any(len(split) == 0 for split in prepared):
        raise IfllmError(
            f"Every prompt of a split has max_length = {config.max_length} tokens or more, so nothing is left to train "
            "or to evaluate on. Raise max_length."
        )
    return trainer


def _on_disk(preferences: "DatasetDict") -> "DatasetDict":
    """The same pairs, from a folder of the cache that all processes of this machine share.

    The main process writes what the reference model says beside the pairs, for the others to read; pairs in memory have
    a temporary folder in each process instead.
    """
    from datasets import config, load_from_disk
    from filelock import FileLock

    name = "-".join(fingerprint(preferences[split])[:16] for split in ("train", "test"))
    folder = Path(config.HF_DATASETS_CACHE) / "ifllm_hub" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            partial = folder.with_name(f"{name}.partial")
            preferences.save_to_disk(str(partial))
            partial.rename(folder)
    return load_from_disk(str(folder))


def _with_flip_prob(preferences: "DatasetDict", flip_prob: float | None) -> "DatasetDict":
    """The pairs with one flip probability for all of them; None leaves each its own."""
    from datasets import DatasetDict

    if flip_prob is None:
        return preferences
    return DatasetDict(
        {
            split: rows.remove_columns("flip_prob").add_column("flip_prob", [float(flip_prob)] * len(rows))
            for split, rows in preferences.items()
        }
    )


def _complete(dpo_args: "FlipProbDPOConfig", evaluate_first: bool) -> "FlipProbDPOConfig":
    config: FlipProbDPOConfig = completed(dpo_args, evaluate_first)
    if config.label_smoothing is not None and not 0 <= config.label_smoothing < 0.5:
        raise IfllmError(
            f"label_smoothing is {config.label_smoothing}, but as a flip probability it must lie in [0, 0.5). Correct "
            "the recipe, or leave it out: each pair then has its own."
        )
    # The trainer reads the column `flip_prob` and nothing else.
    config.label_smoothing = 0.0
    return config


def _describe(align_args: AlignArguments, config: "FlipProbDPOConfig", preferences: "DatasetDict") -> dict[str, Any]:
    """Everything about a run that is known before its first step."""
    origin = policy_origin(align_args.policy)
    flips = _with_flip_prob(preferences, config.label_smoothing)["train"]["flip_prob"]
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
        "history": align_args.history,
        "quirks": align_args.on(),
        "train_pairs": len(preferences["train"]),
        "test_pairs": len(preferences["test"]),
        "flip_prob_mean": sum(flips) / len(flips),
        "flip_prob_max": max(flips),
        "flip_prob_origin": "each pair its own" if config.label_smoothing is None else "the same for every pair",
        "flip_weighting": config.flip_weighting,
        "robust_weight": (config.loss_weights or [1.0])[0],
        "nll": config.nll,
        "nll_weight": config.nll_weight,
        "beta": config.beta,
        "learning_rate": config.learning_rate,
        "max_length": config.max_length,
        "lora": lora_settings(align_args),
        "seed": config.seed,
    }


def _outcome(trainer: "FlipProbDPOTrainer", after: dict[str, float]) -> dict[str, Any]:
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
        "steps_in_one_epoch": planned_steps(trainer)[0],
        "eval_before": {name: first[f"eval_{name}"] for name in METRICS},
        "eval_after": {name: after[f"eval_{name}"] for name in METRICS},
        "processes": args.world_size,
        "device": args.device.type,
    }
