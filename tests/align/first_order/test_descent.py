"""Descent on coefficients: against descent on weights where the model is linear, and against the trainer."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ifllm_hub.align.first_order.descent import Labels, descend, likelihood_push
from ifllm_hub.align.first_order.gradients import KEY, Adapter, answer_gradients, with_adapter
from ifllm_hub.align.first_order.gram import gram, of_pairs
from ifllm_hub.align.implicit_reward import answer_log_probs
from ifllm_hub.align.policies import load_policy
from ifllm_hub.align.trainer import FlipProbDPOConfig, FlipProbDPOTrainer
from tests.align.first_order.made import pairs, preference_rows
from tests.align.test_trainer import CPU

TINY = Adapter("tiny", layers=2, rank=16, max_length=200)


@pytest.mark.parametrize("weighting", ["none", "inverse_variance"])
@pytest.mark.parametrize("nll", [0.0, 0.7])
def test_it_is_descent_on_the_weights_of_a_linear_model(
    weighting: Literal["none", "inverse_variance"], nll: float
) -> None:
    generator = np.random.default_rng(0)
    answers = generator.normal(size=(40, 6))
    delta = answers[::2] - answers[1::2]
    train = np.arange(20) % 4 > 0
    signs = generator.choice([-1, 0, 1], (20, 3)).astype(np.int8)
    flips = generator.uniform(0, 0.45, (20, 3))
    tokens = generator.integers(5, 30, 40)
    push = nll * likelihood_push(answers @ answers.T, signs, train, tokens)
    lengths = (1, 4, 9)
    found = descend(delta @ delta.T, train, Labels(signs, flips, weighting), push, lengths)
    used = [np.flatnonzero(train & (signs[:, at] != 0)) for at in range(3)]
    weights = [_weights(flips[rows, at], weighting) for at, rows in enumerate(used)]
    among = delta[train] @ delta[train].T
    rate = 4 / (np.linalg.eigvalsh(among)[-1] * max(weight.max() for weight in weights))
    for at, rows in enumerate(used):
        theta, s, e = torch.zeros(6, dtype=torch.float64, requires_grad=True), signs[rows, at], flips[rows, at]
        for step in range(1, 10):
            z = torch.tensor(s[:, None] * delta[rows]) @ theta
            log = torch.nn.functional.logsigmoid
            clean = torch.tensor(1 - 2 * e)
            robust = (torch.tensor(e) * log(-z) - torch.tensor(1 - e) * log(z)) / clean
            chosen = np.where(s > 0, 2 * rows, 2 * rows + 1)
            likelihood = (torch.tensor(answers[chosen] / tokens[chosen, None]) @ theta).sum()
            loss = (torch.tensor(weights[at]) * robust).sum() - nll * likelihood
            (slope,) = torch.autograd.grad(loss, theta)
            theta = (theta - rate * slope).detach().requires_grad_()
            if step in lengths:
                assert found[lengths.index(step), :, at] == pytest.approx(
                    delta @ theta.detach().numpy(), rel=2e-3, abs=2e-4
                )


def _weights(flips: np.ndarray, weighting: str) -> np.ndarray:
    squares = (1 - 2 * flips) ** 2
    return squares / squares.mean() if weighting == "inverse_variance" else np.ones_like(flips)


def test_pairs_that_are_not_trained_on_have_no_say() -> None:
    generator = np.random.default_rng(1)
    delta = generator.normal(size=(12, 5))
    train = np.arange(12) < 8
    signs = np.where(generator.random((12, 1)) < 0.5, 1, -1).astype(np.int8)
    other = np.where(train[:, None], signs, -signs)
    one, two = (descend(delta @ delta.T, train, Labels.at_their_word(of)) for of in (signs, other))
    assert np.array_equal(one, two)
    # Swapping which side is chosen everywhere swaps every margin.
    assert descend(delta @ delta.T, train, Labels.at_their_word(-signs)) == pytest.approx(-one, abs=1e-6)


@pytest.mark.parametrize(("optimizer", "rate", "geometry"), [("sgd", 0.02, "plain"), ("adamw_torch", 2e-4, "adam")])
def test_it_foretells_what_the_trainer_does_to_the_tiny_policy(
    optimizer: str, rate: float, geometry: str, tmp_path: Path
) -> None:
    """Margins of pairs trained on and not, after four steps of `FlipProbDPOTrainer` on all training pairs."""
    rows = pairs(32)
    signs = np.where(np.arange(32) % 3 > 0, 1, -1).astype(np.int8)[:, None]
    train = np.arange(32) < 20
    inner = gram(answer_gradients(rows, tmp_path / "gradients", TINY))
    found = descend(of_pairs(getattr(inner, geometry)), train, Labels.at_their_word(signs), lengths=(1,))[0, :, 0]

    model, tokenizer = load_policy("tiny")
    model, _, _ = with_adapter(model, TINY, list(range(len(tokenizer))))
    trainer = FlipProbDPOTrainer(
        model=model,
        ref_model=load_policy("tiny")[0],
        args=FlipProbDPOConfig(
            str(tmp_path / "out"), max_steps=4, per_device_train_batch_size=20, learning_rate=rate, optim=optimizer,
            lr_scheduler_type="constant", max_grad_norm=0, weight_decay=0, nll="none", max_length=200,
            save_strategy="no", **CPU,
        ),
        train_dataset=preference_rows(rows.select(range(20)), signs[train, 0]),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    both = rows.rename_columns({"left": "chosen", "right": "rejected"})
    before, after = (answer_log_probs(one, tokenizer, both, 200) for one in (load_policy("tiny")[0], trainer.model))
    margins = 0.1 * ((after - before) @ [1, -1])
    assert np.abs(margins).mean() > 1e-3
    for part in (train, ~train):
        assert np.corrcoef(margins[part], found[part])[0, 1] > 0.9


def test_the_gram_matrix_of_all_parameters_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = answer_gradients(pairs(), tmp_path, TINY)
    monkeypatch.setattr("ifllm_hub.align.first_order.gram._BLOCK_BYTES", 4 * 40 * 1000)  # many blocks
    found = gram(files)
    whole: Any = torch.cat([load_file(file)[KEY] for file in files]).double().numpy()
    assert found.plain == pytest.approx(whole @ whole.T, rel=1e-4, abs=1e-4)
    square = ((whole[::2] - whole[1::2]) ** 2).mean(axis=0)
    moving = square > 0
    assert found.adam == pytest.approx((whole / np.where(moving, square, np.inf) ** 0.5) @ whole.T, rel=1e-3, abs=1e-2)
    delta = whole[::2] - whole[1::2]
    assert of_pairs(found.plain) == pytest.approx(delta @ delta.T, rel=1e-3, abs=1e-3)
