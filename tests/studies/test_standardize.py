"""Standardized features are on their worker's own scale, from unlabeled questions, and keep what swapping does."""

import random
from math import fsum, sqrt
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.studies.standardize import PRIOR_QUESTIONS, standardize
from ifllm_hub.errors import IfllmError

ODD_FEATURE, EVEN_FEATURE = "mouse_dwell_diff", "mouse_on_text"
LEFT, RIGHT = "mouse_speed_left", "mouse_speed_right"
COLUMNS = (ODD_FEATURE, EVEN_FEATURE, LEFT, RIGHT)

values = st.none() | st.floats(-1e6, 1e6, allow_subnormal=False)
Table = list[dict[str, Any]]
tables = st.lists(
    st.fixed_dictionaries({"worker": st.sampled_from("abc"), **dict.fromkeys(COLUMNS, values)}), min_size=1, max_size=12
)


def frame(table: Table) -> pl.DataFrame:
    rows = pl.DataFrame(table, schema={"worker": pl.String, **dict.fromkeys(COLUMNS, pl.Float64)})
    return rows.with_row_index("question_id")


def standardized(table: Table) -> pl.DataFrame:
    return standardize(frame(table).drop("worker"), frame(table)["worker"])


def center_and_spread(known: list[float], odd: bool) -> tuple[float, float]:
    center = 0.0 if odd else fsum(known) / len(known)
    return center, sqrt(fsum((value - center) ** 2 for value in known) / len(known))


def expected(table: Table, column: str, of: tuple[str, ...]) -> list[float | None]:
    """The docstring's formula, one value at a time; None where the value is not defined or all but does not vary."""
    result: list[float | None] = []
    for row in table:
        if row[column] is None:
            result.append(None)
            continue
        known = [(other["worker"], other[name]) for other in table for name in of if other[name] is not None]
        own = [value for worker, value in known if worker == row["worker"]]
        n, k, odd = len(own), PRIOR_QUESTIONS, column == ODD_FEATURE
        own_center, own_spread = center_and_spread(own, odd)
        center, spread = center_and_spread([value for _, value in known], odd)
        mean, scale = (n * own_center + k * center) / (n + k), (n * own_spread + k * spread) / (n + k)
        result.append((row[column] - mean) / scale if scale > 1e-5 * max(abs(own_center), abs(center), 1e-9) else None)
    return result


@given(tables)
def test_values_are_what_the_formula_says(table: Table) -> None:
    rows = standardized(table)
    of = {ODD_FEATURE: (ODD_FEATURE,), EVEN_FEATURE: (EVEN_FEATURE,), LEFT: (LEFT, RIGHT), RIGHT: (LEFT, RIGHT)}
    for column in COLUMNS:
        for row, value, by_hand in zip(table, rows[column], expected(table, column, of[column]), strict=True):
            assert (value is None) == (row[column] is None)
            if by_hand is not None:
                assert value == pytest.approx(by_hand, rel=1e-4, abs=1e-6)


def test_one_worker_by_hand() -> None:
    table = [dict.fromkeys(COLUMNS) | {"worker": "a", ODD_FEATURE: value} for value in (30.0, -40.0, None)]
    # The root mean square of 30 and 40, which is also everybody's.
    assert standardized(table)[ODD_FEATURE].to_list() == pytest.approx([30 / sqrt(1250), -40 / sqrt(1250), None])
    few = [dict.fromkeys(COLUMNS) | {"worker": "b", ODD_FEATURE: 10.0}]
    everybodys = sqrt((900 + 1600 + 100) / 3)
    last = standardized([*table, *few])[ODD_FEATURE][-1]
    assert last == pytest.approx(10 / ((10 + PRIOR_QUESTIONS * everybodys) / (1 + PRIOR_QUESTIONS)))


@given(tables, st.data())
def test_swapping_a_questions_answers_is_exact_and_its_own_affair(table: Table, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(table) - 1))
    row = table[at]
    odd = row[ODD_FEATURE]
    swapped = row | {ODD_FEATURE: None if odd is None else -odd, LEFT: row[RIGHT], RIGHT: row[LEFT]}
    before, after = (standardized(t).to_dicts() for t in (table, [*table[:at], swapped, *table[at + 1 :]]))
    there = after.pop(at)
    here = before.pop(at)
    assert after == before
    assert there[ODD_FEATURE] == (None if odd is None else -here[ODD_FEATURE])
    assert (there[LEFT], there[RIGHT], there[EVEN_FEATURE]) == (here[RIGHT], here[LEFT], here[EVEN_FEATURE])


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_questions_changes_no_bit(seed: int) -> None:
    rng = random.Random(seed)
    table = [{"worker": rng.choice("abc")} | {name: rng.gauss(0.1, 1) for name in COLUMNS} for _ in range(200)]
    order = rng.sample(range(len(table)), len(table))
    shuffled = standardized([table[i] for i in order])
    assert shuffled.drop("question_id").equals(standardized(table).drop("question_id")[order])


@pytest.mark.parametrize("value", [0.0, 0.1, 123_456.7])
def test_what_does_not_vary_is_zero(value: float) -> None:
    table = [{"worker": worker, **dict.fromkeys(COLUMNS, value)} for worker in "aaabb"]
    rows = standardized(table)
    assert rows[EVEN_FEATURE].to_list() == rows[LEFT].to_list() == [0] * 5
    assert rows[ODD_FEATURE].to_list() == pytest.approx([float(value > 0)] * 5)


def test_workers_with_different_habits_come_to_similar_scales() -> None:
    table = [
        dict.fromkeys(COLUMNS) | {"worker": worker, ODD_FEATURE: habit * (-1) ** i * (1 + i % 3)}
        for worker, habit in (("a", 1.0), ("b", 10.0))
        for i in range(400)
    ]
    spread = frame(table).with_columns(standardized(table)[ODD_FEATURE]).group_by("worker").agg(pl.std(ODD_FEATURE))
    assert spread[ODD_FEATURE].to_list() == pytest.approx([1, 1], rel=0.1)


def test_other_columns_are_left_alone() -> None:
    rows = frame([dict.fromkeys(COLUMNS, 2.0) | {"worker": "a"}]).with_columns(note=pl.lit("x"))
    kept = standardize(rows, rows["worker"])
    assert kept.columns == rows.columns
    assert kept.select("question_id", "worker", "note").equals(rows.select("question_id", "worker", "note"))


@pytest.mark.parametrize("workers", [["a"], ["a", None], ["a", "b", "c"]])
def test_every_row_needs_its_worker(workers: list[str | None]) -> None:
    rows = pl.DataFrame({ODD_FEATURE: [1.0, 2.0]})
    with pytest.raises(IfllmError, match="2 rows of features need as many worker ids"):
        standardize(rows, pl.Series(workers))
