"""Online reinforcement learning with a reward for what is written: the parts of `training/grpo.py`.

GRPO is https://huggingface.co/papers/2402.03300. There are two rewards. `text_reward` is the student's score of what
the policy writes. `behavior_reward` cannot score that, since nobody has read it: it scores only a completion that is,
word for word, an answer in the data. How often that happens is the metric `behavior_reward/coverage`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import polars.selectors as cs

from ifllm_hub.align.runs.arguments import PolicyArguments, describe_data, describe_policy
from ifllm_hub.align.runs.push import shown_model
from ifllm_hub.align.stages.text_reward import TextReward
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from datasets import DatasetDict
    from trl.trainer.grpo_config import GRPOConfig


@dataclass
class GRPOArguments(PolicyArguments):
    """What to train on which reward; everything else is TRL's `GRPOConfig`."""

    reward_model: str = field(
        default="", metadata={"help": "The student: a folder made by training/reward_student.py, or a Hub model id."}
    )
    reward_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub student."})


def load_student(args: GRPOArguments) -> TextReward:
    """The text reward model.

    Raises:
        IfllmError: no model is named, it cannot be loaded, or it cannot score a single answer.
    """
    if not args.reward_model:
        raise IfllmError("reward_model is not set. Make one with training/reward_student.py and name its folder.")
    return TextReward(args.reward_model, args.reward_revision)


def load_prompts(dataset: str | Path, revision: str | None = None) -> "DatasetDict":
    """Queries of workers who are not excluded, with what `behavior_reward` needs to score the two logged answers.

    Returns:
        `train` and `test`, held out by worker, each with `question_id`, conversational `prompt`, `response_left`,
        `response_right` and all features (the columns of floats).

    Raises:
        IfllmError: the dataset cannot be read, or a split has no question.
    """
    from datasets import Dataset, DatasetDict

    from ifllm_hub.reward.protocol.pairs import load_pairs

    rows = load_pairs(dataset, revision).rows.filter(~pl.col("excluded_worker") & ~pl.col("ai_error"))
    rows = rows.select(
        "question_id",
        pl.concat_list(pl.struct(role=pl.lit("user"), content="query")).alias("prompt"),
        "response_left",
        "response_right",
        cs.float(),
        "split",
    )
    parts = {split: rows.filter(pl.col("split") == split).drop("split") for split in SPLITS}
    for split, part in parts.items():
        if part.is_empty():
            raise IfllmError(f"The {split} split of {dataset} has no question. Build the dataset from more workers.")
    return DatasetDict({split: Dataset.from_polars(part) for split, part in parts.items()})


def describe_grpo(args: GRPOArguments, config: "GRPOConfig", data: "DatasetDict", commit: str | None) -> dict[str, Any]:
    """What is known of the run before its first step, for `results.json` and the card."""
    shown = shown_model(args.reward_model)
    return {
        **describe_policy(args),
        "reward_model": shown,
        "reward_revision": args.reward_revision,
        "label_source": f"rewards text_reward ({shown}) and behavior_reward",
        "beta": config.beta,
        "learning_rate": config.learning_rate,
        **describe_data(args, data, commit),
        "data": f"Prompts alone; the rewards are those of the text reward model `{shown}` and of `behavior_reward`, "
        "which has no score for text that nobody has read.",
    }
