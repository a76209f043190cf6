"""The rank of a single answer among its reader's others, by its definition, one answer at a time."""

from math import log
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.engagement import LEAST_MS, LEAST_OTHERS, SLOPE, engagement
from ifllm_hub.reward.functions import engagement_reward

TYPES = {
    "question_id": pl.Int64,
    **dict.fromkeys(("worker_id", "mode"), pl.String),
    **dict.fromkeys(("length_left", "mouse_dwell_left", "viewport_dwell_left"), pl.Float64),
}
TIMES = st.sampled_from([None, 0.0, LEAST_MS - 1.0, 1_000.0, 1_500.0, 4_000.0, 60_000.0])
READING = st.fixed_dictionaries(
    {
        "worker_id": st.sampled_from(["ada", "bo"]),
        "mode": st.sampled_from(["pointwise"] * 5 + ["pairwise"]),
        "length_left": st.sampled_from([1.0, 40.0, 900.0]),
        "mouse_dwell_left": TIMES,
        "viewport_dwell_left": TIMES,
    }
)


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame([{"question_id": number, **row} for number, row in enumerate(rows)], schema=TYPES)


def stay(row: dict[str, Any]) -> tuple[str, float] | None:
    """By what a reading is measured, and what is ranked."""
    for kind in ("mouse_dwell_left", "viewport_dwell_left"):
        time = row[kind] or 0
        if time >= LEAST_MS:
            return kind, log(time + 500) - SLOPE * log(row["length_left"])
    return None


def slow(row: dict[str, Any], rows: list[dict[str, Any]]) -> float | str:
    mine = stay(row)
    if mine is None:
        return "too_little" if row["mouse_dwell_left"] or row["viewport_dwell_left"] else "not_read"
    same = [one for one in rows if (one["worker_id"], one["mode"]) == (row["worker_id"], "pointwise")]
    others = [its[1] for one in same if one is not row and (its := stay(one)) and its[0] == mine[0]]
    if len(others) < LEAST_OTHERS:
        return "few_readings"
    lower, equal = sum(other < mine[1] for other in others), sum(other == mine[1] for other in others)
    return (lower + equal / 2 + 0.5) / (len(others) + 1)


@given(st.lists(READING, max_size=40))
def test_it_is_what_it_says(rows: list[dict[str, Any]]) -> None:
    rows = [dict(row) for row in rows]
    found = engagement(frame(rows))
    expected = [slow(row, rows) for row in rows if row["mode"] == "pointwise"]
    assert found["question_id"].to_list() == [n for n, row in enumerate(rows) if row["mode"] == "pointwise"]
    assert found["reason"].to_list() == [one if isinstance(one, str) else None for one in expected]
    ranks = [None if isinstance(one, str) else pytest.approx(one) for one in expected]
    assert found["engagement"].to_list() == ranks


def test_neither_long_answers_nor_slow_readers_are_favored() -> None:
    """Readers who stay as long as an answer's length asks for, each at a pace of their own: ranks say nothing of it."""
    rng = np.random.default_rng(0)
    rows = []
    for worker, pace in (("ada", 5.0), ("bo", 60.0)):
        for length in rng.uniform(100, 3_000, 400):
            time = pace * 1_000 * length**SLOPE / 50 * rng.lognormal(0, 0.5)
            rows.append({"worker_id": worker, "mode": "pointwise", "length_left": length, "mouse_dwell_left": time})
    found = frame(rows).join(engagement(frame(rows)), on="question_id")
    assert found.group_by("worker_id").agg(pl.col("engagement").mean())["engagement"].to_list() == [0.5, 0.5]
    assert abs(found.select(pl.corr("length_left", "engagement")).item()) < 0.1


def test_the_reward_is_of_the_logged_answer_alone() -> None:
    columns = {"response": ["read", "read", "unknown", None], "engagement": [0.75, 0.75, None, 0.5]}
    completions = [[{"role": "assistant", "content": " read\n"}], "fresh", "unknown", "read"]
    assert engagement_reward(["?"] * 4, completions, **columns, completion_ids=[[1]] * 4) == [0.25, None, None, None]
    assert engagement_reward(["?"], ["read"], response=["read"]) == [None]
    with pytest.raises(IfllmError, match="A completion must be a text"):
        engagement_reward(["?"], [5], response=["read"], engagement=[0.5])
