"""SFT, KTO and GRPO of a policy: what `training/sft.py`, `training/kto.py` and `training/grpo.py` run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import polars.selectors as cs

from ifllm_hub.align.runs.lengths import check_max_length, check_prompts_fit, prompts_with_room
from ifllm_hub.align.runs.push import shown_model
from ifllm_hub.align.runs.run import (
    PolicyArguments,
    Stage,
    chat_policy,
    dataset_commit,
    describe_data,
    describe_policy,
    peft_config,
    run_stage,
    save_policy,
)
from ifllm_hub.align.stages.text_reward import TextReward
from ifllm_hub.dataset.schema import SPLITS
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.history import History, prompts_show
from ifllm_hub.preferences.kto import Desirable, load_kto
from ifllm_hub.preferences.load import load_preferences, subsample

if TYPE_CHECKING:
    from datasets import DatasetDict
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.sft_config import SFTConfig

Targets = Literal["both", "chosen"]


@dataclass
class SFTArguments(PolicyArguments):
    """What to fine-tune on which answers; everything else is TRL's `SFTConfig`."""

    label_source: str = field(default="explicit", metadata={"help": "Whose pairs to take the answers from."})
    history: History = field(default="none", metadata={"help": "What prompts show of the earlier turns."})
    instruction: bool = field(
        default=False, metadata={"help": "Append to prompts what the site appended to the query, where it did."}
    )
    targets: Targets = field(
        default="both",
        metadata={"help": "`both` answers of a pair, as the paper, so that no label matters; or the `chosen` one."},
    )


@dataclass
class KTOArguments(PolicyArguments):
    """What to align on which rated answers; everything else is TRL's `KTOConfig`."""

    desirable: Desirable = field(
        default="above_own_mean",
        metadata={"help": "above_own_mean: rated above what the worker gives on average; at_least_4: rated 4 or 5."},
    )


@dataclass
class GRPOArguments(PolicyArguments):
    """What to train on which reward; everything else is TRL's `GRPOConfig`."""

    reward_model: str = field(
        default="", metadata={"help": "The student: a folder made by training/reward_student.py, or a Hub model id."}
    )
    reward_revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub student."})


def run_sft(args: SFTArguments, config: "SFTConfig", recipe: dict[str, Any]) -> dict[str, Any]:
    """Fine-tune a policy on the answers of preference pairs; see `run_stage`."""
    commit = dataset_commit(args)
    preferences = load_preferences(
        args.dataset, args.label_source, commit, history=args.history, instruction=args.instruction
    )
    data = subsample(answers(preferences, args.targets), config.seed, args.train_size, args.test_size)
    policy, tokenizer = chat_policy(args.policy, config.seed)
    check_max_length(config, policy, args.policy)
    check_prompts_fit(config, tokenizer, data)

    def build(completed: "SFTConfig") -> Any:
        from trl.trainer.sft_trainer import SFTTrainer

        return SFTTrainer(
            model=policy,
            args=completed,
            train_dataset=data["train"],
            eval_dataset=data["test"],
            processing_class=tokenizer,
            peft_config=peft_config(args, policy),
        )

    which = "Both answers of a pair are targets" if args.targets == "both" else "The chosen answers are the targets"
    setup = {
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
    run = Stage("sft", setup, build, _saving(args), is_cut_freely=True, force_push=args.force_push)
    return run_stage(run, config, recipe)


def answers(preferences: "DatasetDict", targets: Targets) -> "DatasetDict":
    """Pairs as prompts with one completion: `question_id`, `prompt`, `completion`; a pair's two follow each other."""
    kinds = ["chosen", "rejected"] if targets == "both" else ["chosen"]

    def separate(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        rows = zip(batch["question_id"], batch["prompt"], *(batch[kind] for kind in kinds), strict=True)
        single = [(question, prompt, answer) for question, prompt, *both in rows for answer in both]
        question_ids, prompts, completions = zip(*single, strict=True)
        return {"question_id": list(question_ids), "prompt": list(prompts), "completion": list(completions)}

    return preferences.map(separate, batched=True, remove_columns=["chosen", "rejected", "flip_prob"])


def run_kto(args: KTOArguments, config: "KTOConfig", recipe: dict[str, Any]) -> dict[str, Any]:
    """Align a policy on single rated answers (https://huggingface.co/papers/2402.01306); see `run_stage`."""
    commit = dataset_commit(args)
    data = subsample(load_kto(args.dataset, args.desirable, commit), config.seed, args.train_size, args.test_size)
    policy, tokenizer = chat_policy(args.policy, config.seed)
    check_max_length(config, policy, args.policy)
    check_prompts_fit(config, tokenizer, data)
    # The rows are by worker and time, and the KL estimate needs them in the order they are in.
    data["train"] = data["train"].shuffle(seed=config.seed)

    def build(completed: "KTOConfig") -> Any:
        from trl.trainer.kto_trainer import KTOTrainer

        # Left to itself TRL reloads the reference by name, and a policy made here has none.
        has_own_reference = args.lora or completed.precompute_ref_log_probs
        return KTOTrainer(
            model=policy,
            ref_model=None if has_own_reference else chat_policy(args.policy, config.seed)[0],
            args=completed,
            train_dataset=data["train"],
            eval_dataset=data["test"],
            processing_class=tokenizer,
            peft_config=peft_config(args, policy),
        )

    labels = data["train"]["label"]
    setup = {
        **describe_policy(args),
        "label_source": f"rating {args.desirable}",
        "desirable_rows": sum(labels),
        "beta": config.beta,
        "learning_rate": config.learning_rate,
        "max_length": config.max_length,
        **describe_data(args, data, commit),
        "data": f"Labeled by the workers' ratings (`{args.desirable}`): {sum(labels)} desirable.",
    }
    # The KL estimate pairs the rows of a micro-batch with each other.
    run = Stage("kto", setup, build, _saving(args), is_cut_freely=False, force_push=args.force_push)
    return run_stage(run, config, recipe)


def run_grpo(args: GRPOArguments, config: "GRPOConfig", recipe: dict[str, Any]) -> dict[str, Any]:
    """Online reinforcement learning (https://huggingface.co/papers/2402.03300) with two rewards; see `run_stage`.

    `text_reward` is the student's score of what the policy writes. `behavior_reward` has none for it, since nobody has
    read it: it rewards a completion that is, word for word, an answer in the data. How often that happens is the metric
    `behavior_reward/coverage`.
    """
    from ifllm_hub.reward.functions import get_behavior_reward

    if not args.reward_model:
        raise IfllmError("reward_model is not set. Make one with training/reward_student.py and name its folder.")
    commit = dataset_commit(args)
    data = subsample(load_prompts(args.dataset, commit), config.seed, args.train_size, args.test_size)
    student = TextReward(args.reward_model, args.reward_revision)
    policy, tokenizer = chat_policy(args.policy, config.seed)

    def build(completed: "GRPOConfig") -> Any:
        from trl.trainer.grpo_trainer import GRPOTrainer

        rewards: list[Any] = [student, get_behavior_reward()]
        prompts = prompts_with_room(data, policy, tokenizer, config.max_completion_length or 0)
        return GRPOTrainer(
            model=policy,
            reward_funcs=rewards,
            args=completed,
            train_dataset=prompts["train"],
            eval_dataset=prompts["test"],
            processing_class=tokenizer,
            peft_config=peft_config(args, policy),
        )

    shown = shown_model(args.reward_model)
    setup = {
        **describe_policy(args),
        "reward_model": shown,
        "reward_revision": args.reward_revision,
        "label_source": f"rewards text_reward ({shown}) and behavior_reward",
        "beta": config.beta,
        "learning_rate": config.learning_rate,
        **describe_data(args, data, commit),
        "data": f"Prompts alone; the rewards are those of the text reward model `{shown}` and of `behavior_reward`, "
        "which knows none of what nobody has read.",
    }
    # Each process draws its answers with random numbers of its own.
    run = Stage("grpo", setup, build, _saving(args), is_cut_freely=False, force_push=args.force_push)
    return run_stage(run, config, recipe)


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


def _saving(args: PolicyArguments) -> Any:
    return lambda trainer, output_dir: save_policy(trainer, args, output_dir)
