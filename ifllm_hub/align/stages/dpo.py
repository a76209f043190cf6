"""Preference optimization with `FlipProbDPOTrainer`: the parts of `training/dpo.py`.

The loss is the robust DPO of https://huggingface.co/papers/2403.00409 with a flip probability for each pair, plus the
likelihood of the chosen answer, as in IFLLM (https://huggingface.co/papers/2606.20482).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.quirks import OF_POLICY, ReferenceQuirks, base_of, cut_answers, quirky_pairs, reference_policy
from ifllm_hub.align.runs.arguments import PolicyArguments, describe_data, describe_policy, parse_arguments
from ifllm_hub.align.runs.lengths import check_max_length
from ifllm_hub.align.runs.resume import is_sharded
from ifllm_hub.align.runs.run import copies_folder, damaged_copy
from ifllm_hub.align.stored_reference import StoredReference, reference_file
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.history import History, prompts_show
from ifllm_hub.preferences.load import fingerprint, load_preferences, subsample
from ifllm_hub.preferences.splits import Split, relabel

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
        default=False, metadata={"help": "Append to a prompt what the study's site appended to the query, if anything."}
    )
    split: Split = field(
        default="worker",
        metadata={"help": "What train and test never share; `reference`: rows, as in the paper's code."},
    )
    shuffle_seed: int | None = field(
        default=None, metadata={"help": "With label_source shuffled: of the permutation; the stored one if unset."}
    )
    same_pairs: list[str] = field(
        default_factory=list, metadata={"help": "Keep only the pairs that all of these label sources have."}
    )


def parse_dpo(argv: Sequence[str] | None = None) -> "tuple[DPOArguments, FlipProbDPOConfig, dict[str, Any]]":
    """See `parse_arguments`. Without a `label_smoothing` (None), each pair has its own flip probability."""
    from ifllm_hub.align.trainer import FlipProbDPOConfig

    args, config, recipe = parse_arguments(DPOArguments, FlipProbDPOConfig, argv, label_smoothing=None)
    if args.base_reference == OF_POLICY:
        args.base_reference = base_of(args.policy)
    return args, config, recipe


def load_pairs(args: DPOArguments, config: "FlipProbDPOConfig", commit: str | None) -> "DatasetDict":
    """Preference pairs with flip probabilities, `train` and `test` held out by worker or as `args.split` says.

    Args:
        config: of the trainer. `label_smoothing` None means the flip probability of each pair; a number, even TRL's
            default of 0.0, is used for every pair of both splits instead.
        commit: of a Hub dataset.

    Raises:
        IfllmError: bad data, or a flip probability outside [0, 0.5).
    """
    as_stored = args.split == "worker" and args.shuffle_seed is None
    pairs = load_preferences(
        args.dataset,
        args.label_source,
        commit,
        history=args.history,
        instruction=args.instruction,
        rows=None if as_stored else relabel(args.dataset, args.label_source, args.split, commit, args.shuffle_seed),
        same_pairs=args.same_pairs,
        constant_flip_prob=_constant_flip_prob(args, config),
        by_decision_time=args.flip_prob_rule == "decision_time",
    )
    if args.on():
        pairs = quirky_pairs(pairs, args, args.label_source, args.dataset, commit)
    return subsample(pairs, config.seed, args.train_size, args.test_size)


def load_reference(args: DPOArguments, config: "FlipProbDPOConfig") -> "PreTrainedModel | None":
    """The reference model; None with LoRA (the policy without its adapter) or precomputed log-probabilities.

    Without it TRL would reload the policy by name, and a policy made here has none.

    Raises:
        IfllmError: it cannot be loaded or cannot read `max_length` tokens, or a quirk needs it during training.
    """
    name = reference_policy(args.policy, args, args.label_source)
    if not args.lora and not config.precompute_ref_log_probs:
        reference, _ = load_policy(name, seed=config.seed)
        check_max_length(config, reference, name)
        return reference
    if name != args.policy or args.cut_answers:
        raise IfllmError(
            "base_reference and cut_answers need the reference model during training. Leave out lora and "
            "precompute_ref_log_probs."
        )
    return None


def stored_reference(policy: "PreTrainedModel", config: "FlipProbDPOConfig") -> StoredReference | None:
    """Where the reference's log-probabilities are kept for other runs; None if they are not computed first.

    Several processes, and one whose weights are sharded, compute them together, as TRL does it.

    Args:
        policy: as it starts, which is the reference, before an adapter is added.

    Raises:
        IfllmError: the cache cannot be written.
    """
    alone = config.world_size == 1 and not is_sharded()
    return reference_file(policy, config) if config.precompute_ref_log_probs and alone else None


def describe_dpo(
    args: DPOArguments, config: "FlipProbDPOConfig", pairs: "DatasetDict", commit: str | None
) -> dict[str, Any]:
    """What is known of the run before its first step, for `results.json` and the card."""
    flips = pairs["train"]["flip_prob"]
    origin = "each pair its own" if config.label_smoothing is None else "the same for every pair"
    if args.flip_prob_rule == "decision_time":
        origin = (
            f"by decision time; {sum(flip == 0 for flip in flips)} of {len(flips)} labels have none and count as sure"
        )
    mean = sum(flips) / len(flips)
    return {
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
        **describe_data(args, pairs, commit),
        "data": f"pairs labeled by `{args.label_source}`, with flip probability {mean:.4f} ({origin}). "
        f"{prompts_show(args.history, args.instruction)}",
    }


def shared_copy(pairs: "DatasetDict", config: "FlipProbDPOConfig") -> "DatasetDict":
    """The same pairs, from this machine's cache if several processes share the reference log-probabilities."""
    return _on_disk(pairs) if config.precompute_ref_log_probs and config.world_size > 1 else pairs


def _on_disk(preferences: "DatasetDict") -> "DatasetDict":
    """The same pairs, from a folder of the cache that all processes of this machine share.

    The main process writes the reference log-probabilities beside the pairs, for the others to read; pairs in memory
    would have a temporary folder of their own in each process.
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
    """The flip probability of all pairs; None if each has its own."""
    constant = config.label_smoothing
    if constant is None:
        return None
    if not 0 <= constant < 0.5:
        raise IfllmError(
            f"label_smoothing is {constant}, but as a flip probability it must lie in [0, 0.5). Correct the recipe, or "
            "leave it out: each pair then has its own."
        )
    if args.flip_prob_rule != "other_side":
        raise IfllmError(
            "label_smoothing is one flip probability for all pairs, which leaves flip_prob_rule without "
            "effect. Drop one of them."
        )
    return float(constant)


def cut_data(trainer: "FlipProbDPOTrainer", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Cut the pairs of a trainer as `quirks.cut_answers` does."""
    trainer.train_dataset = cut_answers(trainer.train_dataset, tokenizer)
    trainer.eval_dataset = cut_answers(trainer.eval_dataset, tokenizer)


def count_truncated(trainer: "FlipProbDPOTrainer") -> dict[str, int]:
    """How many training pairs are cut at `max_length`."""
    pairs: Any = trainer.train_dataset
    limit = trainer.args.max_length
    completions = (max(len(c), len(r)) for c, r in zip(pairs["chosen_ids"], pairs["rejected_ids"], strict=True))
    lengths = [len(p) + completion for p, completion in zip(pairs["prompt_ids"], completions, strict=True)]
    return {"pairs_truncated": 0 if limit is None else sum(length > limit for length in lengths)}
