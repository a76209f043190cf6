"""What labels are worth, by the trainer's own loss."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from ifllm_hub.align.trainer import FlipProbDPOTrainer
from ifllm_hub.dataset.label_worth import label_worth

FLIPS = np.array([0.0, 0.02, 0.1, 0.2, 0.3, 0.35, 0.4, 0.43, 0.45, 0.45])


@pytest.mark.parametrize("weighting", ["inverse_variance", "none"])
def test_worth_is_the_information_in_the_gradient_of_the_loss(weighting: str) -> None:
    answer = [{"role": "assistant", "content": "first"}]
    rows = {"label_source": "ours", "question_id": range(10), "worker_id": "ada", "flip_prob": FLIPS}
    (worth,) = label_worth(pl.DataFrame(rows | {"chosen": [answer] * 10}))
    expected = worth.said["mean"] if weighting == "inverse_variance" else worth.unweighted
    assert information(FLIPS, weighting) / information(np.zeros(1), weighting) == pytest.approx(expected, rel=0.03)


def information(flips: np.ndarray, weighting: str, draws: int = 40_000) -> float:
    """(Mean second derivative)^2 over the variance of the first, at margin 0, over labels that are drawn many times."""
    args = SimpleNamespace(flip_weighting=weighting, loss_weights=None, nll="none", nll_weight=1.0)
    trainer = SimpleNamespace(args=args, _mean_precision=float(((1 - 2 * flips) ** 2).mean()))
    rng = np.random.default_rng(0)
    # At margin 0 the worker is as likely to prefer either answer; the label is wrong as often as it says.
    label = rng.choice([-1.0, 1.0], (draws, len(flips))) * np.where(rng.random((draws, len(flips))) < flips, -1, 1)
    policy = torch.zeros(draws, 1, dtype=torch.float64, requires_grad=True)
    margin = policy * torch.tensor(label)
    loss, _ = FlipProbDPOTrainer.pair_losses(
        trainer, margin, torch.zeros_like(margin), torch.tensor(flips).expand(draws, -1)
    )
    (slope,) = torch.autograd.grad(loss.sum(), policy, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), policy)
    return float(curvature.mean() ** 2 / slope.detach().var())
