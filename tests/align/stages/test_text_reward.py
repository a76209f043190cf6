"""Reward models of text: the soft-label loss by hand, both forms, what is cut, and what is no encoder."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.stages.text_reward import (
    TextReward,
    encode_pairs,
    load_encoder,
)
from ifllm_hub.align.stages.text_reward import _encode as encode
from ifllm_hub.errors import IfllmError
from tests.align.scripts import results_of


def scores_by_hand(folder: Path, prompts: list[str], texts: list[str]) -> list[float]:
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    scores = []
    for prompt, text in zip(prompts, texts, strict=True):
        parts = [tokenizer.encode(part, add_special_tokens=False) for part in (prompt, text)]
        cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        with torch.no_grad():
            scores.append(model.eval()(torch.tensor([[cls, *parts[0], sep, *parts[1], sep]])).logits.item())
    return scores


def test_student_learns_soft_labels_and_is_a_reward_function(
    run: Callable[..., int], tmp_path: Path, six_pairs: list[dict[str, Any]]
) -> None:
    assert run("reward_student", max_steps=12, learning_rate=5e-3) == 0
    folder, results = tmp_path / "out", results_of(tmp_path / "out")
    prompts, chosen, rejected = (
        [row[column][0]["content"] for row in six_pairs] for column in ("prompt", "chosen", "rejected")
    )
    r_chosen, r_rejected = scores_by_hand(folder, prompts, chosen), scores_by_hand(folder, prompts, rejected)
    differences = [one - other for one, other in zip(r_chosen, r_rejected, strict=True)]

    def cross_entropy(flips: list[float]) -> float:
        p = [1 / (1 + math.exp(-d)) for d in differences]
        return -sum((1 - e) * math.log(q) + e * math.log(1 - q) for e, q in zip(flips, p, strict=True)) / len(p)

    soft = cross_entropy([row["flip_prob"] for row in six_pairs])
    assert results["eval_after"]["loss"] == pytest.approx(soft, abs=1e-5)
    assert soft != pytest.approx(cross_entropy([0.0] * 6), abs=1e-3), "the test cannot see the soft labels"
    assert results["eval_before"]["loss"] == pytest.approx(math.log(2), abs=0.05)

    against = results["against_explicit"]
    flipped = [d if at < 2 else -d for at, d in enumerate(differences)]
    longer = [(len(c) > len(r)) == (at < 2) for at, (c, r) in enumerate(zip(chosen, rejected, strict=True))]
    assert (against["pairs"], against["workers"]) == (6, 1)
    assert against["models"]["this model"]["correct"] == sum(d > 0 for d in flipped)
    assert against["models"]["the longer answer"]["correct"] == sum(longer)
    low, high = (against["models"]["the longer answer"][bound] for bound in ("low", "high"))
    for bound in (low, high):  # Wilson: the shares whose own standard error puts them 1.96 away
        assert abs(bound - sum(longer) / 6) == pytest.approx(1.96 * math.sqrt(bound * (1 - bound) / 6))

    reward = TextReward(folder)
    conversations = [row["prompt"] for row in six_pairs], [row["chosen"] for row in six_pairs]
    assert reward(*conversations, completion_ids=[], trainer_state=None) == pytest.approx(r_chosen, abs=1e-5)
    assert reward(prompts, rejected) == pytest.approx(r_rejected, abs=1e-5)

    card = (folder / "README.md").read_text()
    assert "Labeled by `forest`, with P(label is wrong) 0.2000 on average (each pair its own)" in card
    assert f"| the longer answer | {sum(longer)} |" in card


def test_cross_encoder_reads_both_orders_and_is_no_reward_function(run: Callable[..., int], tmp_path: Path) -> None:
    assert run("reward_text", max_steps=1) == 0
    assert results_of(tmp_path / "out")["form"] == "cross_encoder"
    with pytest.raises(IfllmError, match="cannot score a single answer"):
        TextReward(tmp_path / "out")
    tokenizer = load_encoder("tiny", 0)[1]
    rows = {
        "question_id": [1, 1],
        "prompt": ["Why?"] * 2,
        "chosen": ["Because.", "So."],
        "rejected": ["So.", "Because."],
    }
    pair, swapped = encode_pairs(Dataset.from_dict(rows), tokenizer, "cross_encoder")
    assert pair["chosen_ids"] == swapped["rejected_ids"] != pair["rejected_ids"] == swapped["chosen_ids"]


@pytest.mark.parametrize("length", [32, 61, 200])
@pytest.mark.parametrize("count", [1, 2])
def test_long_texts_are_cut_alike(length: int, count: int) -> None:
    tokenizer = load_encoder("tiny", 0)[1]
    tokenizer.model_max_length = length
    ids = encode(tokenizer, "a b c d " * 50 + "?", ["e f g h " * (50 * (at + 1)) for at in range(count)])
    assert length - count < len(ids) <= length
    ends = [at for at, token in enumerate(ids) if token == tokenizer.sep_token_id]
    assert ids[0] == tokenizer.cls_token_id
    assert ends[-1] == len(ids) - 1
    assert len(ends) == count + 1
    assert tokenizer.decode(ids[1 : ends[0]]).endswith("?"), "the end of the prompt is the question"
    assert len({end - start for start, end in pairwise(ends)}) == 1, "each answer has the same room"


def test_a_causal_model_is_no_encoder(tmp_path: Path) -> None:
    model, tokenizer = load_policy("tiny")
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(IfllmError, match="has no cls_token and no sep_token"):
        load_encoder(str(tmp_path), 0)


def test_the_new_layer_follows_from_the_seed() -> None:
    one, same, other = (load_encoder("tiny", seed)[0].classifier.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
