"""Pairs made up for a test."""

from typing import Any

import numpy as np
import polars as pl

from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs


def made(left: list[bool], workers: list[Any], conversations: list[Any] | None = None, **features: Any) -> Pairs:
    """Pairs with these preferences; a feature that is not given is not recorded. Nothing is rated."""
    n = len(left)
    names = dict.fromkeys((*FEATURES, *features))
    columns = {name: features.get(name, [None] * n) for name in names}
    return Pairs(
        pl.DataFrame(
            {
                "question_id": range(n),
                "worker_id": [f"w{worker}" for worker in workers],
                "conversation_id": [f"c{number}" for number in (conversations or range(n))],
                "preference": ["left" if one else "right" for one in left],
                "rating_left": [None] * n,
                "rating_right": [None] * n,
                **columns,
            },
            schema_overrides={"rating_left": pl.Int8, "rating_right": pl.Int8, **dict.fromkeys(names, pl.Float64)},
        )
    )


def half_and_half(n: int) -> Pairs:
    generator = np.random.default_rng(n)
    left = generator.permutation(np.arange(n) % 2 == 0).tolist()
    return made(left, (np.arange(n) // 5).tolist(), (np.arange(n) // 2).tolist())
