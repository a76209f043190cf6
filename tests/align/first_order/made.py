"""Pairs of the tiny policy, and a comparison whose truth is known."""

from typing import Any

import numpy as np
import polars as pl
from datasets import Dataset

from ifllm_hub.align.first_order.comparison import FirstOrderResult, train_by_folds
from ifllm_hub.align.first_order.sources import Compared
from ifllm_hub.align.policies import SAMPLE
from ifllm_hub.reward.protocol.pairs import Pairs

PAIRS, WORKERS = 240, 24


def pairs(count: int = 20) -> Dataset:
    """Pairs of answers cut out of the sample text, of different lengths."""
    words = SAMPLE.split()

    def said(role: str, start: int, length: int) -> list[dict[str, str]]:
        return [{"role": role, "content": " ".join(words[start : start + length])}]

    return Dataset.from_list(
        [
            {
                "question_id": number,
                "prompt": said("user", 3 * number, 5),
                "left": said("assistant", 7 * number, 6 + number % 5),
                "right": said("assistant", 5 * number + 90, 4 + number % 7),
            }
            for number in range(count)
        ]
    )


def preference_rows(rows: Dataset, signs: Any) -> Dataset:
    """The same pairs in TRL's format, labeled by these signs."""
    chosen = [("left", "right") if sign > 0 else ("right", "left") for sign in signs]
    return Dataset.from_list(
        [
            {"prompt": row["prompt"], "chosen": row[best], "rejected": row[worst], "flip_prob": 0.0}
            for row, (best, worst) in zip(rows, chosen, strict=True)
        ]
    )


def made(seed: int = 0) -> tuple[Compared, np.ndarray]:
    """Pairs of 24 workers in five folds, of which the first number of a text decides what is better; and the kernel."""
    generator = np.random.default_rng(seed)
    delta = generator.normal(size=(PAIRS, 30)) * np.r_[2, 2, np.ones(28)]
    better = np.where(delta[:, 0] + 0.7 * generator.normal(size=PAIRS) > 0, 1, -1).astype(np.int8)
    workers = np.arange(PAIRS) % WORKERS
    rows = pl.DataFrame(
        {
            "question_id": np.arange(PAIRS),
            "worker_id": [f"w{worker:02}" for worker in workers],
            "fold_worker": workers % 5,
            "length_log_ratio": delta[:, 1] / 4,
        }
    )
    longer = np.sign(delta[:, 1]).astype(np.int8)
    return Compared(
        rows, ["explicit", "longer"], better, np.column_stack([better, longer]), Pairs(rows)
    ), delta @ delta.T


def by_fold(compared: Compared) -> dict[int, np.ndarray]:
    return dict.fromkeys(range(5), compared.stored)


def made_result() -> FirstOrderResult:
    """Both geometries alike, with 200 permutations."""
    compared, kernel = made()
    trained = train_by_folds(kernel, compared, by_fold(compared), compared.permuted(200))
    explicit = dict.fromkeys(range(5), compared.stored[:, :1])
    likelihood = train_by_folds(kernel, compared, explicit, compared.permuted(200))
    both = {"adam": trained, "plain": trained}
    return FirstOrderResult(compared, compared.sources, compared.stored, both, dict.fromkeys(both, likelihood))
