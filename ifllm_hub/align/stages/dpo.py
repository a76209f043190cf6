"""Preference optimization with `FlipProbDPOTrainer`: what `training/dpo.py` runs.

The loss is the robust DPO of https://huggingface.co/papers/2403.00409 with a flip probability for each pair, plus the
likelihood of the chosen answer, as in IFLLM (https://huggingface.co/papers/2606.20482).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.quirks import ReferenceQuirks, cut_answers, quirky_pairs, reference_policy
from ifllm_hub.align.runs.lengths import check_max_length, check_prompts_fit
from ifllm_hub.align.runs.run import (
    PolicyArguments,
    Stage,
    chat_policy,
    copies_folder,
    damaged_copy,
    dataset_commit,
    describe_data,
    describe_policy,
    parse_arguments,
    peft_config,
    run_stage,
    save_policy,
)
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.history import History, prompts_show
from ifllm_hub.preferences.load import Split, fingerprint, load_preferences, subsample

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ifllm_hub.align.trainer import FlipProbDPOConfig, FlipProbDPOTrainer

METRICS = ("loss", "nll", *(f"rewards/{name}" for name in ("accuracies", "margins", "chosen", "rejected")))


@dataclass
class DPOArguments(ReferenceQuirks, PolicyArguments):
    """What to align on which pairs; everything else is the `FlipProbDPOConfig` of the trainer."""

    label_source: str = field(default="forest", metadata={"help": "Whose labels to train on."})
    history: History = field(default="none", metadata={"help": "What prompts show of the earlier turns."})
    instruction: bool = field(
        default=False, metadata={"help": "Append to prompts what the site appended to the query, where it did."}
    )
    split: Split = field(
        default="worker", metadata={"help": "What train and test never share; `reference`: rows, as the paper's code."}
    )
    same_pairs: list[str] = field(
        default_factory=list, metadata={"help": "Keep only the pairs that all of these label sources have."}
    )


def parse_dpo(argv: Sequence[str] | None = None) -> "tuple[DPOArguments, FlipProbDPOConfig, dict[str, Any]]":
    """See `parse_arguments`. Without a `label_smoothing` (None), each pair has its own flip probability."""
    from ifllm_hub.align.trainer import FlipProbDPOConfig

    return parse_arguments(DPOArguments, FlipProbDPOConfig, argv, label_smoothing=None)


def run_dpo(args: DPOArguments, config: "FlipProbDPOConfig", recipe: dict[str, Any]) -> dict[str, Any]:
    """Train a policy on preference pairs; see `run_stage`.

    With LoRA the merged weights are saved, so that a reader needs neither PEFT nor the base model, and the adapter
    alone stands in `adapter/`.

    Args:
        args: the data and the policy.
        config: of the trainer. `label_smoothing` None means the flip probability of each pair; a number, also TRL's
            default 0.0, is taken for every pair instead, of both splits.
        recipe: the values given, for the card.

    Returns what `results.json` holds.

    Raises:
        IfllmError: bad data, an unknown policy, a flip probability outside [0, 0.5), or a folder of another run.
    """
    commit = dataset_commit(args)
    preferences = load_preferences(
        args.dataset,
        args.label_source,
        commit,
        history=args.history,
        instruction=args.instruction,
        split=args.split,
        same_pairs=args.same_pairs,
        constant_flip_prob=_constant_flip_prob(args, config),
    )
    preferences = quirky_pairs(preferences, args, args.label_source, args.dataset, commit)
    preferences = subsample(preferences, config.seed, args.train_size, args.test_size)
    policy = chat_policy(args.policy, config.seed)
    check_max_length(config, policy[0], args.policy)
    check_prompts_fit(config, policy[1], preferences)
    flips = preferences["train"]["flip_prob"]
    origin = "each pair its own" if config.label_smoothing is None else "the same for every pair"
    mean = sum(flips) / len(flips)
    # The trainer reads the column `flip_prob` and nothing else.
    config.label_smoothing = 0.0
    setup = {
        **describe_policy(args),
        "label_source": args.label_source,
        "history": args.history,
        "instruction": args.instruction,
        "split": args.split,
        "quirks": args.on(),
        "flip_prob_mean": mean,
        "flip_prob_max": max(flips),
        "flip_prob_origin": origin,
        "flip_weighting": config.flip_weighting,
        "robust_weight": (config.loss_weights or [1.0])[0],
        "nll": config.nll,
        "nll_weight": config.nll_weight,
        "beta": config.beta,
        "learning_rate": config.learning_rate,
        "max_length": config.max_length,
        **describe_data(args, preferences, commit),
        "data": f"pairs labeled by `{args.label_source}`, with flip probability {mean:.4f} ({origin}). "
        f"{prompts_show(args.history, args.instruction)}",
    }
    stage = Stage(
        "dpo",
        setup,
        build=lambda completed: build_trainer(args, completed, preferences, policy),
        save=lambda trainer, output_dir: save_policy(trainer, args, output_dir),
        is_cut_freely=True,
        measure=_truncated,
        metrics=METRICS,
        force_push=args.force_push,
    )
    return run_stage(stage, config, recipe)


def build_trainer(
    args: DPOArguments,
    config: "FlipProbDPOConfig",
    preferences: "DatasetDict",
    policy: "tuple[PreTrainedModel, PreTrainedTokenizerBase]",
) -> "FlipProbDPOTrainer":
    """The trainer for a completed configuration, with an explicit reference model.

    Raises:
        IfllmError: the reference cannot be loaded or reads less than `max_length`, or a setting is not defined for the
            loss.
    """
    from ifllm_hub.align.trainer import FlipProbDPOTrainer

    model, tokenizer = policy
    # Left to itself TRL reloads the reference by name, and a policy made here has none. With LoRA the reference is the
    # policy without its adapter; precomputed, it is the policy before the first step.
    reference = None
    reference_name = reference_policy(args.policy, args, args.label_source)
    if not args.lora and not config.precompute_ref_log_probs:
        reference, _ = load_policy(reference_name, seed=config.seed)
        check_max_length(config, reference, reference_name)
    elif reference_name != args.policy or args.cut_answers:
        raise IfllmError(
            "base_reference and cut_answers need the reference model while training. Leave out lora and "
            "precompute_ref_log_probs."
        )
    if config.precompute_ref_log_probs and config.world_size > 1:
        preferences = _on_disk(preferences)
    trainer = FlipProbDPOTrainer(
        model=model,
        ref_model=reference,
        args=config,
        train_dataset=preferences["train"],
        eval_dataset=preferences["test"],
        processing_class=tokenizer,
        peft_config=peft_config(args, model),
    )
    if args.cut_answers:
        trainer.train_dataset = cut_answers(trainer.train_dataset, tokenizer)
        trainer.eval_dataset = cut_answers(trainer.eval_dataset, tokenizer)
    return trainer


def _on_disk(preferences: "DatasetDict") -> "DatasetDict":
    """The same pairs, from a folder of the cache that all processes of this machine share.

    The main process writes what the reference model says beside the pairs, for the others to read; pairs in memory have
    a temporary folder in each process instead.
    """
    from datasets import load_from_disk
    from filelock import FileLock

    name = "-".join(fingerprint(preferences[split])[:16] for split in ("train", "test"))
    folder = copies_folder() / name
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            partial = folder.with_name(f"{name}.partial")
            preferences.save_to_disk(str(partial))
            partial.rename(folder)
    try:
        return load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise damaged_copy(folder, error) from error


def _constant_flip_prob(args: DPOArguments, config: "FlipProbDPOConfig") -> float | None:
    """The one flip probability of all pairs, if that is what is asked for."""
    constant = config.label_smoothing
    if constant is None:
        return None
    if not 0 <= constant < 0.5:
        raise IfllmError(
            f"label_smoothing is {constant}, but as a flip probability it must lie in [0, 0.5). Correct the recipe, or "
            "leave it out: each pair then has its own."
        )
    if args.flip_prob_rule != "other_side":
        raise IfllmError("label_smoothing is the flip probability of all pairs. Leave it out, or flip_prob_rule.")
    return float(constant)


def _truncated(trainer: "FlipProbDPOTrainer") -> dict[str, int]:
    """How many training pairs are cut at `max_length`."""
    pairs: Any = trainer.train_dataset
    limit = trainer.args.max_length
    completions = (max(len(c), len(r)) for c, r in zip(pairs["chosen_ids"], pairs["rejected_ids"], strict=True))
    lengths = [len(p) + completion for p, completion in zip(pairs["prompt_ids"], completions, strict=True)]
    return {"pairs_truncated": 0 if limit is None else sum(length > limit for length in lengths)}
