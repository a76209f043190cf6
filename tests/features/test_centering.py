"""Habits: the shrunken mean of a worker's own readings, taken off exactly, without labels."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.features.catalog import names
from ifllm_hub.features.centering import (
    HABITUAL,
    LESS_HABIT,
    PRIOR_READINGS,
    SUFFIX,
    center_by_past,
    center_by_worker,
    habit_states,
    merge_states,
)

CONTRASTS = st.lists(
    st.tuples(st.sampled_from("abc"), st.none() | st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-6)), max_size=30
)


def frame(readings: list[tuple[str, float | None]]) -> pl.DataFrame:
    return pl.DataFrame(readings, schema={"worker_id": pl.String, "x": pl.Float64}, orient="row")


def test_by_hand() -> None:
    rows = frame([("a", 6.0), ("b", -2.0), ("a", None), ("a", 4.0)])
    # a: 10 / (2 + 3) = 2, the null does not count; b: -2 / (1 + 3) = -0.5.
    assert center_by_worker(rows, ["x"])["x_centered"].to_list() == [4.0, -1.5, None, 2.0]


@given(readings=CONTRASTS)
def test_every_worker_alone_gives_the_same(readings: list[tuple[str, float | None]]) -> None:
    rows = center_by_worker(frame(readings), ["x"])
    for worker in rows["worker_id"].unique():
        own = [x for who, x in readings if who == worker]
        known = [x for x in own if x is not None]
        expected = [None if x is None else x - sum(known) / (len(known) + PRIOR_READINGS) for x in own]
        got = rows.filter(worker_id=worker)["x_centered"].to_list()
        assert [x is None for x in got] == [x is None for x in expected]
        assert np.allclose([x for x in got if x is not None], [x for x in expected if x is not None], rtol=1e-9)


@given(readings=CONTRASTS)
def test_swapping_all_of_a_workers_questions_changes_the_sign_exactly(readings: list[tuple[str, float | None]]) -> None:
    there = center_by_worker(frame(readings), ["x"])["x_centered"]
    back = center_by_worker(frame([(who, None if x is None else -x) for who, x in readings]), ["x"])["x_centered"]
    assert back.to_list() == (-there).to_list()


@given(readings=CONTRASTS, seed=st.integers(0, 99))
def test_order_and_chunks_leave_no_trace(readings: list[tuple[str, float | None]], seed: int) -> None:
    rows = frame(readings).with_row_index()
    shuffled = rows.sample(fraction=1, shuffle=True, seed=seed)
    pieces = pl.concat([shuffled[i : i + 2] for i in range(0, len(shuffled), 2)] or [shuffled], rechunk=False)
    assert center_by_worker(pieces, ["x"]).sort("index").equals(center_by_worker(rows, ["x"]), null_equal=True)


def test_a_habit_goes_and_what_differs_stays() -> None:
    rng = np.random.default_rng(0)
    said = rng.normal(size=4_000)
    worker = np.arange(4_000) // 200
    rows = pl.DataFrame({"worker_id": worker.astype(str), "x": said + rng.normal(scale=5, size=20)[worker]})
    left = center_by_worker(rows, ["x"])["x_centered"].to_numpy()
    assert np.corrcoef(rows["x"], said)[0, 1] < 0.4
    assert np.corrcoef(left, said)[0, 1] > 0.98


# --- states


# Huge beside tiny and subnormal, zeros of both signs.
ANY = st.floats(-1e300, 1e300) | st.floats(-1, 1) | st.sampled_from([-0.0, 0.0, 5e-324, -5e-324, 1e300, 2.0**53, 1.0])
ANY_CONTRASTS = st.lists(st.tuples(st.sampled_from("abc"), st.none() | ANY), min_size=1, max_size=30)


def bits(column: pl.Series) -> list[bytes | None]:
    return [None if x is None else np.float64(x).tobytes() for x in column.to_list()]


@given(readings=ANY_CONTRASTS, data=st.data())
def test_any_parts_of_the_rows_merged_in_any_order_give_the_same_bits(
    readings: list[tuple[str, float | None]], data: st.DataObject
) -> None:
    rows = frame(readings)
    part = pl.Series(data.draw(st.lists(st.integers(0, 5), min_size=rows.height, max_size=rows.height)))
    parts = [rows.filter(part == number) for number in range(6)]
    states = [habit_states(one, ["x"]) for one in parts]
    while len(states) > 1:
        states = data.draw(st.permutations(states))
        count = data.draw(st.integers(2, len(states)))
        states = [merge_states(states[:count]), *states[count:]]
    (merged,) = states
    assert merged.equals(habit_states(rows, ["x"])), "the states, too, do not tell how the rows were parted"
    centered = center_by_worker(rows, ["x"])
    for number, one in enumerate(parts):
        expected = centered.filter(part == number)["x_centered"]
        assert bits(center_by_worker(one, ["x"], merged)["x_centered"]) == bits(expected)


@given(readings=st.lists(ANY, max_size=30))
def test_a_state_is_the_sum_in_few_numbers(readings: list[float]) -> None:
    rows = pl.DataFrame({"worker_id": "a", "x": pl.Series([None, *readings], dtype=pl.Float64)})
    ((_, _, n, parts),) = habit_states(rows, ["x"]).iter_rows()
    assert n == len(readings)
    assert sum(map(Fraction, parts)) == sum(map(Fraction, readings))
    assert len(parts) <= 40
    assert all(abs(after) <= np.spacing(abs(before)) / 2 for before, after in pairwise(parts))


def test_a_state_stays_small_with_many_readings_of_any_size() -> None:
    rng = np.random.default_rng(0)
    readings = rng.normal(size=100_000) * 2.0 ** rng.integers(-1_000, 900, size=100_000)
    parts = habit_states(pl.DataFrame({"worker_id": "a", "x": readings}), ["x"])["parts"][0]
    assert len(parts) <= 40
    usual = habit_states(pl.DataFrame({"worker_id": "a", "x": rng.normal(size=100_000)}), ["x"])["parts"][0]
    assert len(usual) <= 3


def test_infinite_and_undefined_readings_are_as_in_a_sum() -> None:
    rows = pl.DataFrame({"worker_id": ["a", "a", "b", "b"], "x": [1.0, float("inf"), 2.0, float("nan")]})
    merged = merge_states([habit_states(row, ["x"]) for row in rows.iter_slices(1)])
    assert bits(center_by_worker(rows, ["x"], merged)["x_centered"]) == bits(
        center_by_worker(rows, ["x"])["x_centered"]
    )


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (habit_states(frame([("a", 1.0)]), ["x"]), r"no state of 'x' for worker 'b' \(in all, 1 are lacking\)"),
        (habit_states(frame([("a", 1.0)]).rename({"x": "y"}), ["y"]), r"no state of 'x' for worker 'a'.*2 are lacking"),
        (pl.concat([habit_states(frame([("b", 1.0), ("a", 1.0)]), ["x"])] * 2), "more than one state of 'x' for"),
    ],
    ids=["worker", "feature", "not merged"],
)
def test_states_that_do_not_fit_are_refused(states: pl.DataFrame, message: str) -> None:
    with pytest.raises(IfllmError, match=message):
        center_by_worker(frame([("a", 1.0), ("b", None), ("b", 2.0)]), ["x"], states)


# --- in the dataset


def test_one_order_is_declared() -> None:
    assert list(HABITUAL) == [name for name in names() if name in HABITUAL]
    rows = pl.DataFrame({"worker_id": ["a"], **{name: [1.0] for name in HABITUAL}})
    assert center_by_worker(rows).columns[-len(HABITUAL) :] == [feature.name for feature in LESS_HABIT]


def test_the_states_of_the_features_config(dataset) -> None:
    rows = load_config(dataset, "features").drop(feature.name for feature in LESS_HABIT)
    merged = merge_states([habit_states(part) for part in rows.iter_slices(7)])
    assert center_by_worker(rows, states=merged).equals(center_by_worker(rows))


def test_the_features_config_has_it(dataset) -> None:
    rows = pl.concat(pl.read_parquet(file) for file in sorted((dataset / "data" / "features").glob("*.parquet")))
    assert {feature.swap for feature in LESS_HABIT} == {"odd"}
    for feature in LESS_HABIT:
        raw = feature.name.removesuffix(SUFFIX)
        expected = center_by_worker(rows.drop(feature.name), [raw])[feature.name]
        assert expected.null_count() == rows[raw].null_count() < len(rows)
        assert np.nanmax(np.abs((expected - rows[feature.name]).to_numpy())) == pytest.approx(0, abs=1e-9)


PAST = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.none() | st.floats(-1e3, 1e3)), max_size=20)


def dated(readings: list[tuple[str, int, float | None]]) -> pl.DataFrame:
    schema = {"worker_id": pl.String, "asked_at": pl.Int64, "x": pl.Float64}
    return pl.DataFrame(readings, schema=schema, orient="row").with_row_index("question_id")


@given(readings=PAST)
def test_the_habit_of_the_past_is_that_of_what_was_read_until_then(
    readings: list[tuple[str, int, float | None]],
) -> None:
    """As the habit of all readings, of a dataset that ends with the question."""
    rows = dated(readings)
    got = center_by_past(rows, ["x"])
    assert got.drop("x_centered_causal").equals(rows), "rows and their order stay"
    for number, (worker, at, x) in enumerate(readings):
        until = rows.filter(
            (pl.col("worker_id") == worker)
            & ((pl.col("asked_at") < at) | ((pl.col("asked_at") == at) & (pl.col("question_id") <= number)))
        )
        then = center_by_worker(until, ["x"]).filter(question_id=number)["x_centered"].item()
        assert got["x_centered_causal"][number] == (None if x is None else pytest.approx(then, abs=1e-9))


@given(readings=PAST)
def test_swapping_all_questions_changes_the_sign_of_what_is_less_the_past(
    readings: list[tuple[str, int, float | None]],
) -> None:
    there = center_by_past(dated(readings), ["x"])["x_centered_causal"]
    swapped = [(who, at, None if x is None else -x) for who, at, x in readings]
    assert center_by_past(dated(swapped), ["x"])["x_centered_causal"].to_list() == (-there).to_list()
