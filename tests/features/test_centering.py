"""Habits: the shrunken mean of a worker's own readings, taken off exactly, without labels."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.features.centering import LESS_HABIT, PRIOR_READINGS, SUFFIX, center_by_past, center_by_worker

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
