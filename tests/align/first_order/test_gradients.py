"""Gradients of answers: against finite differences, for every architecture, and a pass that was stopped."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ifllm_hub.align.first_order.gradients import (
    KEY,
    PAIRS_PER_FILE,
    Adapter,
    answer_gradients,
    gradients,
    tokenize,
    with_adapter,
)
from ifllm_hub.align.implicit_reward import answer_log_probs
from ifllm_hub.align.policies import load_policy
from ifllm_hub.errors import IfllmError
from tests.align.first_order.made import pairs
from tests.align.test_trainer import ARCHITECTURES
from tests.align.tiny_llm import tiny_llm

TINY = Adapter("tiny", layers=1, rank=4, max_length=200)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_gradient_is_how_the_log_probability_changes(architecture: str) -> None:
    model, tokenizer = tiny_llm(architecture, ARCHITECTURES[architecture])
    rows = pairs(3)
    answers = tokenize(tokenizer, rows, 200)
    everything = list(range(len(tokenizer)))
    model, parameters, places = with_adapter(model.double(), TINY, everything)
    found = torch.stack(list(gradients(model, parameters, places, answers.tokens)))
    generator = torch.Generator().manual_seed(0)
    step = torch.randn(found.shape[1], generator=generator, dtype=torch.float64)
    both = rows.rename_columns({"left": "chosen", "right": "rejected"})
    said = []
    for size in (1e-3, -1e-3):
        with torch.no_grad():
            for value, part in zip(parameters, step.split([one.numel() for one in parameters]), strict=True):
                value.copy_(size * part.reshape(value.shape))
        said.append(answer_log_probs(model, tokenizer, both, 200).reshape(-1))
    # `answer_log_probs` takes logits in float32.
    assert found @ step == pytest.approx((said[0] - said[1]) / 2e-3, abs=2e-2, rel=2e-3)
    assert found.abs().amin(1).shape == (6,)
    assert (found.norm(dim=1) > 0).all()


def test_only_tokens_of_answers_can_be_said() -> None:
    model, tokenizer = load_policy("tiny")
    answers = tokenize(tokenizer, pairs(2), 200)
    model, _parameters, places = with_adapter(model, TINY, answers.vocabulary)
    ids, start = answers.tokens[0]
    asked = torch.arange(start - 1, len(ids) - 1)
    with torch.no_grad():
        whole = load_policy("tiny")[0](torch.tensor([ids])).logits[0, asked]
        kept = model(torch.tensor([ids]), logits_to_keep=asked).logits[0]
    assert kept.numpy() == pytest.approx(whole[:, answers.vocabulary].numpy(), abs=1e-5)
    assert [answers.vocabulary[place] for place in places[torch.tensor(ids[start:])]] == ids[start:]
    assert len(answers.vocabulary) < len(tokenizer)


def test_a_stopped_pass_continues_and_other_settings_are_refused(tmp_path: Path) -> None:
    rows = pairs(PAIRS_PER_FILE + 3)
    shares: list[float] = []
    files = answer_gradients(rows, tmp_path, TINY, advance=shares.append)
    assert [load_file(file)[KEY].shape[0] for file in files] == [2 * PAIRS_PER_FILE, 6]
    assert shares[0] == 0
    assert shares[-1] == 1
    assert shares == sorted(shares)
    first, second = (file.read_bytes() for file in files)
    files[1].unlink()
    os.utime(files[0], (1, 1))
    assert answer_gradients(rows, tmp_path, TINY) == files
    assert files[0].stat().st_mtime == 1
    assert (files[0].read_bytes(), files[1].read_bytes()) == (first, second)
    with pytest.raises(IfllmError, match=r"something else \(rank 4 -> 8\)"):
        answer_gradients(rows, tmp_path, Adapter("tiny", 1, 8, 200))
    with pytest.raises(IfllmError, match="SHA-256 of the pairs"):
        answer_gradients(pairs(4), tmp_path, TINY)


def test_a_prompt_without_room_is_named(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match="Question 0: the prompt alone has max_length = 8 tokens or more"):
        answer_gradients(pairs(4), tmp_path, Adapter("tiny", 1, 4, 8))
    with pytest.raises(IfllmError, match="lora_layers is 9"):
        answer_gradients(pairs(4), tmp_path, Adapter("tiny", 9, 4, 200))


@pytest.mark.slow
def test_two_processes_write_the_same(tmp_path: Path) -> None:
    rows = pairs(2 * PAIRS_PER_FILE)
    one, two = (answer_gradients(rows, tmp_path / str(jobs), TINY, jobs) for jobs in (1, 2))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]
