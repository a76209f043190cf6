"""Real training with the tiny policy: from hidden states as from the tokens, and towards the labels."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F
from peft import get_peft_model

from eval.studies.real_training import BETA, Training, first_order, left_chosen, rated_pairs
from ifllm_hub.align.first_order.gradients import SEED, Adapter
from ifllm_hub.align.implicit_reward import answer_tokens
from ifllm_hub.align.policies import load_policy, lora_config
from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError

ADAPTER = Adapter("tiny", layers=1, rank=4, max_length=256)


def by_tokens(rows: pl.DataFrame, chosen: dict[int, bool], learning_rate: float) -> list[float]:
    """The margins after one step on all rows: whole model, PEFT as its documentation has it, one pair at a time."""
    model, tokenizer = load_policy("tiny", SEED)
    pairs = [[answer_tokens(tokenizer, row["prompt"], row[side], 256) for side in SIDES] for row in rows.to_dicts()]
    allowed = torch.tensor(sorted({token for pair in pairs for ids, start in pair for token in ids[start:]}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        adapted: Any = get_peft_model(model, lora_config(model, 4, 8, 1)).eval()

    def said(ids: list[int], start: int) -> torch.Tensor:
        logits = adapted(torch.tensor([ids])).logits[0, start - 1 : -1]
        log_probs = logits - logits[:, allowed].logsumexp(1, keepdim=True)
        return log_probs.gather(1, torch.tensor(ids[start:])[:, None]).sum()

    with torch.no_grad():
        reference = [[said(*answer) for answer in pair] for pair in pairs]

    def margin(row: int) -> torch.Tensor:
        left, right = (said(*answer) - before for answer, before in zip(pairs[row], reference[row], strict=True))
        return BETA * (left - right)

    optimizer = torch.optim.AdamW(
        [it for it in adapted.parameters() if it.requires_grad], learning_rate, weight_decay=0
    )
    signs = torch.tensor([1.0 if chosen[row] else -1.0 for row in range(len(pairs))])
    F.softplus(-signs * torch.stack([margin(row) for row in range(len(pairs))])).mean().backward()
    optimizer.step()
    with torch.no_grad():
        return [margin(row).item() for row in range(len(pairs))]


SIDES = ("left", "right")


def test_from_hidden_states_as_from_tokens(labeled_dataset: Path) -> None:
    rows = rated_pairs(str(labeled_dataset)).head(4)
    chosen = {0: True, 1: False, 2: True, 3: True}
    training = Training(rows, ADAPTER)
    np.testing.assert_allclose(training.margins([0, 1, 2, 3]), 0, atol=1e-4)
    foretold = first_order(training.kernel(), chosen)[0]
    training.train({row: not left for row, left in chosen.items()}, 1e-3)  # leaves nothing behind
    training.train(chosen, 1e-3)
    margins = training.margins([0, 1, 2, 3])
    assert [margin > 0 for margin in margins] == list(chosen.values())
    assert np.corrcoef(margins, foretold)[0, 1] > 0.9
    np.testing.assert_allclose(margins, by_tokens(rows, chosen, 1e-3), rtol=0, atol=2e-3 * np.abs(margins).max())


def test_labels_are_those_of_the_source_outside_of_the_fold(labeled_dataset: Path) -> None:
    dataset = str(labeled_dataset)
    rows = rated_pairs(dataset)
    said = load_config(dataset, "pairwise").join(rows.select("question_id"), on="question_id").sort("question_id")
    explicit, shuffled = (left_chosen(dataset, rows, source, fold=4) for source in ("explicit", "shuffled"))
    known = [row for row, fold in enumerate(said["fold_worker"]) if fold != 4]
    assert explicit == {row: said["preference"][row] == "left" for row in known}
    assert (shuffled.keys(), sum(shuffled.values())) == (explicit.keys(), sum(explicit.values()))
    assert shuffled != explicit
    with pytest.raises(IfllmError, match="'forest_gaze' has no label for a rated pair"):
        left_chosen(dataset, rows.filter(pl.col("fold_worker") == 4), "forest_gaze", fold=4)
