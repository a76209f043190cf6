"""The reward function inside TRL's own online trainers, for two real steps each on the CPU."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from datasets import Dataset

from ifllm_hub.align.policies import load_policy
from ifllm_hub.reward.functions import BehaviorReward, Scale, get_behavior_reward
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs

ANSWERS = [("Boil the lentils.", "Lentils."), ("Take the train.", "Walk, it is near."), ("Yes.", "No, not at all.")]
GENERATIONS = 4


class Spy:
    """Passes calls on to the reward function and keeps what went in and came out."""

    __name__ = "spy"

    def __init__(self, function: BehaviorReward):
        self.function = function
        self.calls: list[tuple[list[Any], dict[str, list[Any]], list[float | None]]] = []

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
        rewards = self.function(prompts, completions, **columns)
        self.calls.append((completions, columns, rewards))
        return rewards


def logged_questions(pairs: Pairs, conversational: bool) -> Dataset:
    """Three questions with behavior, whose answers are short enough to be generated."""
    rows = pairs.rows.head(3).select("question_id", *FEATURES).to_dicts()
    for number, (row, (left, right)) in enumerate(zip(rows, ANSWERS, strict=True)):
        question = f"Question {number}?"
        row["prompt"] = [{"role": "user", "content": question}] if conversational else question
        row |= {"response_left": left, "response_right": right}
    return Dataset.from_list(rows)


def answer_from_the_log(generate: Callable[..., Any], tokenizer: Any) -> Callable[..., Any]:
    """The policy's own sampling, with the logged answers in the place of every second and third completion of four."""

    def generate_some(input_ids: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        sampled = generate(input_ids=input_ids, **kwargs)
        start, end = input_ids.shape[1], tokenizer.pad_token_id
        prompts = tokenizer.batch_decode(input_ids, skip_special_tokens=True)
        completions = [row[start:].tolist() for row in sampled]
        for number, prompt in enumerate(prompts):
            side = {1: 0, 2: 1}.get(number % GENERATIONS)
            if side is not None:
                question = next(index for index in range(3) if f"Question {index}?" in prompt)
                completions[number] = [*tokenizer(ANSWERS[question][side])["input_ids"], tokenizer.eos_token_id]
        width = max(map(len, completions))
        padded = [ids + [end] * (width - len(ids)) for ids in completions]
        return torch.cat([input_ids, torch.tensor(padded)], dim=1)

    return generate_some


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "per_device_train_batch_size": GENERATIONS,
        "num_generations": GENERATIONS,
        "max_completion_length": 16,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "bf16": False,
        "activation_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": 0,
    }


@pytest.mark.parametrize("algorithm", ["GRPO", "RLOO"])
@pytest.mark.parametrize(
    ("conversational", "scale"), [(True, "probability"), (False, "logit")], ids=["chat, probability", "text, logit"]
)
def test_trainer_learns_from_logged_answers_only(
    algorithm: str,
    conversational: bool,
    scale: Scale,
    model_folder: Path,
    small_model: ImplicitFeedbackRewardModel,
    pairs: Pairs,
    tmp_path: Path,
) -> None:
    import trl

    torch.set_num_threads(1)  # with two, OpenMP's busy waiting is several times slower on a shared machine
    # From a folder, because RLOO loads its reference by the policy's name.
    for part in load_policy("tiny"):
        part.save_pretrained(tmp_path / "policy")
    policy, tokenizer = load_policy(str(tmp_path / "policy"))
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    spy = Spy(get_behavior_reward(model_folder, scale=scale))
    arguments = getattr(trl, f"{algorithm}Config")(**settings(tmp_path), max_steps=2)
    trainer = getattr(trl, f"{algorithm}Trainer")(
        model=policy,
        reward_funcs=spy,
        args=arguments,
        train_dataset=logged_questions(pairs, conversational),
        processing_class=tokenizer,
    )
    trainer.model.generate = answer_from_the_log(trainer.model.generate, tokenizer)
    trainer.train()

    probability = small_model.predict_proba(pairs.X()[:3])[:, 1].tolist()
    p_of = dict(zip(pairs.rows["question_id"].head(3), probability, strict=True))
    assert len(spy.calls) == 2
    for completions, columns, rewards in spy.calls:
        (question,) = set(columns["question_id"])
        p = p_of[question]
        pair = (p, 1 - p) if scale == "probability" else (math.log(p / (1 - p)), math.log((1 - p) / p))
        assert rewards == [None, *map(pytest.approx, pair), None]
        assert isinstance(completions[0], list) == conversational
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    logged = [entry["rewards/spy/mean"] for entry in trainer.state.log_history if "rewards/spy/mean" in entry]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    mean = 0.5 if scale == "probability" else 0
    assert logged == pytest.approx([mean, mean], abs=1e-6), "that of both sides, without the completions that got None"
    metrics = [entry for entry in trainer.state.log_history if "behavior_reward/coverage" in entry]
    assert [entry["behavior_reward/coverage"] for entry in metrics] == [0.5, 0.5]
    assert [entry["behavior_reward/mean"] for entry in metrics] == pytest.approx([mean, mean], abs=1e-6)
    assert any(not torch.equal(before[name], tensor) for name, tensor in policy.state_dict().items())


@pytest.mark.parametrize("aggregation", ["sum_then_normalize", "normalize_then_sum"])
@pytest.mark.parametrize("options", [{}, {"scale": "probability"}], ids=["default", "probability"])
def test_beside_another_reward_a_disliked_answer_is_worth_less_than_a_fresh_one(
    aggregation: str,
    options: dict[str, Any],
    model_folder: Path,
    small_model: ImplicitFeedbackRewardModel,
    pairs: Pairs,
    tmp_path: Path,
) -> None:
    """TRL counts None as 0 once another function scores the completion. A probability is above 0 for any answer."""
    from trl import GRPOConfig, GRPOTrainer

    def politeness(completions: list[Any], **columns: Any) -> list[float]:
        return [0.01] * len(completions)

    torch.set_num_threads(1)
    probability = small_model.predict_proba(pairs.X()[:3])[:, 1]
    clear = int(np.abs(probability - 0.5).argmax())
    policy, tokenizer = load_policy("tiny")
    trainer = GRPOTrainer(
        model=policy,
        reward_funcs=[get_behavior_reward(model_folder, **options), politeness],
        args=GRPOConfig(
            **settings(tmp_path), max_steps=1, multi_objective_aggregation=aggregation, log_completions=True
        ),
        train_dataset=logged_questions(pairs, True).select([clear]),
        processing_class=tokenizer,
    )
    trainer.model.generate = answer_from_the_log(trainer.model.generate, tokenizer)
    trainer.train()

    told = pl.read_parquet(tmp_path / "out" / "completions" / "*.parquet")
    assert told["behavior_reward"].is_null().to_list() == [True, False, False, True]
    first, left, right, last = told["advantage"]
    liked, disliked = (left, right) if probability[clear] > 0.5 else (right, left)
    assert first == last
    assert disliked < liked
    if options and aggregation == "sum_then_normalize":
        assert first < disliked, "as the docstring warns"
    else:
        assert disliked < first < liked
