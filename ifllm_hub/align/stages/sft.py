"""Supervised fine-tuning on the answers of preference pairs: the parts of `training/sft.py`."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ifllm_hub.align.runs.arguments import PolicyArguments, describe_data, describe_policy
from ifllm_hub.preferences.history import History, prompts_show
from ifllm_hub.preferences.load import load_preferences, subsample

if TYPE_CHECKING:
    from datasets import DatasetDict
    from trl.trainer.sft_config import SFTConfig

Targets = Literal["both", "chosen"]


@dataclass
class SFTArguments(PolicyArguments):
    """What to fine-tune on which answers; everything else is TRL's `SFTConfig`."""

    label_source: str = field(default="explicit", metadata={"help": "Whose pairs to take the answers from."})
    history: History = field(default="none", metadata={"help": "What prompts show of the earlier turns."})
    instruction: bool = field(
        default=False, metadata={"help": "Append to a prompt what the study's site appended to the query, if anything."}
    )
    targets: Targets = field(
        default="both",
        metadata={"help": "`both` answers of a pair, as in the paper, so that no label matters; or the `chosen` one."},
    )


def load_answers(args: SFTArguments, seed: int, commit: str | None) -> "DatasetDict":
    """Prompts and answers to learn, `train` and `test` held out by worker; see `answers`.

    Args:
        seed: for the rows drawn for `train_size` and `test_size`.
        commit: of a Hub dataset.

    Raises:
        IfllmError: the dataset cannot be read, or has no such label source.
    """
    preferences = load_preferences(
        args.dataset, args.label_source, commit, history=args.history, instruction=args.instruction
    )
    return subsample(answers(preferences, args.targets), seed, args.train_size, args.test_size)


def answers(preferences: "DatasetDict", targets: Targets) -> "DatasetDict":
    """One row per answer (`question_id`, `prompt`, `completion`); the two rows of a pair follow each other."""
    kinds = ["chosen", "rejected"] if targets == "both" else ["chosen"]

    def separate(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = zip(batch["question_id"], batch["prompt"], *(batch[kind] for kind in kinds), strict=True)
        single = [(question, prompt, answer) for question, prompt, *both in rows for answer in both]
        question_ids, prompts, completions = zip(*single, strict=True)
        return {"question_id": list(question_ids), "prompt": list(prompts), "completion": list(completions)}

    return preferences.map(separate, batched=True, remove_columns=["chosen", "rejected", "flip_prob"])


def describe_sft(args: SFTArguments, config: "SFTConfig", data: "DatasetDict", commit: str | None) -> dict[str, Any]:
    """What is known of the run before its first step, for `results.json` and the card."""
    which = "Both answers of a pair are targets" if args.targets == "both" else "The chosen answers are the targets"
    return {
        **describe_policy(args),
        "label_source": args.label_source,
        "history": args.history,
        "instruction": args.instruction,
        "targets": args.targets,
        "learning_rate": config.learning_rate,
        "max_length": config.max_length,
        **describe_data(args, data, commit),
        "data": f"{which}, of the pairs labeled by `{args.label_source}`. "
        f"{prompts_show(args.history, args.instruction)}",
    }
