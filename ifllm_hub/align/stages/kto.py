"""KTO on single rated answers (https://huggingface.co/papers/2402.01306): the parts of `training/kto.py`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.runs.arguments import PolicyArguments, describe_data, describe_policy
from ifllm_hub.align.runs.run import chat_policy
from ifllm_hub.preferences.kto import Desirable, load_kto
from ifllm_hub.preferences.load import subsample

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedModel
    from trl.trainer.kto_config import KTOConfig


@dataclass
class KTOArguments(PolicyArguments):
    """What to align on which rated answers; everything else is TRL's `KTOConfig`."""

    desirable: Desirable = field(
        default="above_own_mean",
        metadata={"help": "above_own_mean: rated above what the worker gives on average; at_least_4: rated 4 or 5."},
    )


def load_ratings(args: KTOArguments, seed: int, commit: str | None) -> "DatasetDict":
    """Single answers with the Boolean `label`, `train` and `test` held out by worker; see `load_kto`.

    Args:
        seed: for the order of the training rows, and for the rows drawn for `train_size` and `test_size`.
        commit: of a Hub dataset.

    Raises:
        IfllmError: the dataset cannot be read.
    """
    data = subsample(load_kto(args.dataset, args.desirable, commit), seed, args.train_size, args.test_size)
    # The rows are sorted by worker and time, and TRL's estimate of the KL term pairs neighboring rows.
    data["train"] = data["train"].shuffle(seed=seed)
    return data


def load_reference(args: KTOArguments, config: "KTOConfig") -> "PreTrainedModel | None":
    """The reference model; None with LoRA (the policy without its adapter) or precomputed log-probabilities.

    Without it TRL would reload the policy by name, and a policy made here has none.
    """
    if args.lora or config.precompute_ref_log_probs:
        return None
    return chat_policy(args.policy, config.seed)[0]


def describe_kto(args: KTOArguments, config: "KTOConfig", data: "DatasetDict", commit: str | None) -> dict[str, Any]:
    """What is known of the run before its first step, for `results.json` and the card."""
    desirable = sum(data["train"]["label"])
    return {
        **describe_policy(args),
        "label_source": f"rating {args.desirable}",
        "desirable_rows": desirable,
        "beta": config.beta,
        "learning_rate": config.learning_rate,
        "max_length": config.max_length,
        **describe_data(args, data, commit),
        "data": f"Labeled by the workers' ratings (`{args.desirable}`): {desirable} desirable.",
    }
