"""How well people can be told apart, counted another way, and for people of whom it is known."""

import hashlib
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.dataset.privacy.attack import k_anonymity, reidentify

# --- k-anonymity


def k_by_hand(known: list[tuple[str, Any]]) -> tuple[int, float, float]:
    """k, and the shares of workers alone and below five, from pairs of a worker and what is known."""
    groups: dict[Any, set[str]] = {}
    for worker, values in known:
        groups.setdefault(values, set()).add(worker)
    workers = {worker for worker, _ in known}
    smallest = {worker: min(len(group) for group in groups.values() if worker in group) for worker in workers}
    alone, few = (sum(size < limit for size in smallest.values()) / len(workers) for limit in (2, 5))
    return min(smallest.values()), round(alone, 4), round(few, 4)


def test_k_of_a_table_counted_by_hand() -> None:
    table = {
        "a": ["mon", "mon", "mon", "mon", "mon", "tue", "tue", "wed"],
        "b": [1, 1, 1, 1, 1, 1, 1, None],
        "worker_id": ["v", "w", "x", "y", "z", "v", "v", "w"],
    }
    rows = pl.DataFrame(table)
    # Five on Monday; on Tuesday v alone, twice; on Wednesday w alone.
    assert k_anonymity(rows, ["a"]) == {
        "quasi_identifiers": ["a"],
        "k": 1,
        "workers_alone": 0.4,
        "workers_below_5": 0.4,
    }
    assert k_anonymity(rows[:5], ["a"]) | {"quasi_identifiers": []} == {
        "quasi_identifiers": [],
        "k": 5,
        "workers_alone": 0.0,
        "workers_below_5": 0.0,
    }
    assert k_anonymity(rows, ["b"])["k"] == 1  # only w has the null


values = st.integers(0, 3)


@given(st.lists(st.tuples(st.sampled_from("vwxyz"), values, values | st.none()), min_size=1, max_size=30))
def test_k_of_any_table_and_knowing_more_is_never_safer(table: list[tuple[str, int, int | None]]) -> None:
    rows = pl.DataFrame(table, schema={"worker_id": pl.String, "a": pl.Int64, "b": pl.Int64}, orient="row")
    both, one = k_anonymity(rows, ["a", "b"]), k_anonymity(rows, ["a"])
    found = both["k"], both["workers_alone"], both["workers_below_5"]
    assert found == k_by_hand([(worker, (a, b)) for worker, a, b in table])
    assert both["k"] <= one["k"]
    assert both["workers_alone"] >= one["workers_alone"]
    assert both["workers_below_5"] >= one["workers_below_5"]


# --- the attack


def people(workers: int = 8, seed: int = 0) -> pl.DataFrame:
    """Worker w has 4 + w conversations of three questions; `noise` tells nothing, `habit` the worker, `place` the
    conversation but not the worker."""
    rng = np.random.default_rng(seed)
    rows = [
        {"worker_id": f"w{w}", "conversation_id": f"w{w}/{c}", "habit": w + rng.normal(0, 0.1)}
        for w in range(workers)
        for c in range(4 + w)
        for _ in range(3)
    ]
    frame = pl.DataFrame(rows).with_columns(question_id=pl.Series(rng.permutation(len(rows))))
    places = {c: rng.normal() for c in sorted(set(frame["conversation_id"]))}
    return frame.with_columns(
        noise=pl.Series(rng.normal(size=len(rows))),
        place=pl.col("conversation_id").replace_strict(places),
        nothing=pl.lit(None, pl.Float64),
    )


def test_a_habit_gives_everybody_away() -> None:
    found = reidentify(people(), ["noise", "habit", "nothing"])
    assert found is not None
    assert found["workers"] == 8
    assert found["conversations"] == sum(range(4, 12))
    assert found["top1"] >= 0.95
    assert found["top1_mean_over_workers"] >= 0.95
    assert found["majority"] == round(11 / 60, 4)
    assert found["low"] <= found["top1"] <= found["high"]


@pytest.mark.parametrize("column", ["noise", "place"])
def test_what_tells_nothing_of_the_worker_is_no_better_than_the_majority(column: str) -> None:
    """With `place`, an attacker who had seen part of a conversation would be right each time."""
    found = reidentify(people(), [column])
    assert found is not None
    assert found["top1"] <= found["majority"] + 0.1


def test_with_shuffled_ids_the_attack_falls_to_the_majority() -> None:
    frame = people()
    conversations = frame.unique("conversation_id", maintain_order=True)
    ids = np.random.default_rng(1).permutation(conversations["worker_id"].to_numpy())
    shuffled = dict(zip(conversations["conversation_id"], ids.tolist(), strict=True))
    found = reidentify(frame.with_columns(worker_id=pl.col("conversation_id").replace_strict(shuffled)), ["habit"])
    assert found is not None
    assert found["top1"] <= found["majority"] + 0.1


def test_the_attack_does_not_depend_on_the_order_of_rows() -> None:
    frame = people()
    assert reidentify(frame, ["noise", "habit"]) == reidentify(
        frame.sample(fraction=1, shuffle=True, seed=2), ["noise", "habit"]
    )


def test_workers_with_one_conversation_cannot_be_attacked() -> None:
    frame = people()
    single = frame.with_columns(
        pl.when(worker_id="w0").then(pl.lit("w0/0")).otherwise("conversation_id").alias("conversation_id")
    )
    found = reidentify(single, ["habit"])
    assert found is not None
    assert found["workers"] == 7
    assert found["conversations"] == sum(range(5, 12))
    assert reidentify(frame.filter(worker_id="w3"), ["habit"]) is None
    assert reidentify(frame.filter(pl.col("conversation_id").str.ends_with("/0")), ["habit"]) is None
    assert reidentify(frame.clear(), ["habit"]) is None


def test_of_many_workers_a_sample_is_attacked_that_depends_on_ids_alone() -> None:
    frame = people(workers=8)
    found = reidentify(frame, ["noise", "habit"], most=3)
    chosen = sorted((f"w{w}" for w in range(8)), key=lambda id_: hashlib.sha256(id_.encode()).hexdigest())[:3]
    alone = reidentify(frame.filter(pl.col("worker_id").is_in(chosen)), ["noise", "habit"])
    assert alone is not None
    assert found == alone | {"workers": 3, "workers_in_all": 8}
    # Who has one conversation takes nobody's place.
    single = pl.DataFrame(
        {"worker_id": [f"s{s}" for s in range(20)], "conversation_id": [f"s{s}/0" for s in range(20)]}
    )
    rows = single.with_columns(noise=0.0, habit=0.0, question_id=1_000 + pl.int_range(20, dtype=pl.Int64))
    assert reidentify(pl.concat([frame, rows], how="diagonal"), ["noise", "habit"], most=3) == found


def test_where_all_are_attacked_nothing_is_said_of_a_sample() -> None:
    found = reidentify(people(workers=8), ["habit"], most=8)
    assert found == reidentify(people(workers=8), ["habit"])
    assert found is not None
    assert "workers_in_all" not in found


def test_the_interval_is_wide_when_few_workers_decide() -> None:
    frame = people()
    known = frame.with_columns(habit=pl.when(pl.col("worker_id").is_in(["w6", "w7"])).then("habit").otherwise(0.0))
    found = reidentify(known, ["habit"])
    assert found is not None
    assert found["high"] - found["low"] > 0.2
