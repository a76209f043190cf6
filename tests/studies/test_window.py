"""Parts of readings: what counts as off the text, and ticks in another order."""

import polars as pl
import pytest

from eval.studies.last_seconds import parts
from eval.studies.window import off_text, reordered
from tests.features.slow_features import CARETS, frame

NOBODY = dict.fromkeys(CARETS, [-1] * 5)
TIMES = [0, 1_000, 2_000, 9_000, 20_000]


@pytest.fixture(scope="module")
def readings() -> pl.DataFrame:
    """One reading with the visits left, right, left, and gaze throughout; one that is never on text."""
    lengths = {"length_left": 50, "length_right": 50, "length_query": 5}
    times = {"t": TIMES, "mouse_x": [0.0] * 5}
    mouse = {"mouse_char_left": [3, -1, -1, 8, -1], "mouse_char_right": [-1, 7, 9, -1, -1]}
    read = {**NOBODY, **mouse, "gaze_char_left": [1, 2, 3, 4, 5]}
    return frame([{"question_id": 1, **lengths, **times, **read}, {"question_id": 2, **lengths, **times, **NOBODY}])


@pytest.mark.parametrize(
    ("name", "left", "right", "gaze"),
    [
        ("without the last 5 s", [3, -1, -1, -1, -1], [-1, 7, 9, -1, -1], [1, 2, 3, -1, -1]),
        ("without the first 5 s", [-1, -1, -1, 8, -1], [-1] * 5, [-1, -1, -1, 4, 5]),
        ("without the last visit", [3, -1, -1, -1, -1], [-1, 7, 9, -1, -1], [1, 2, 3, -1, -1]),
        ("without the first visit", [-1, -1, -1, 8, -1], [-1, 7, 9, -1, -1], [-1, 2, 3, 4, 5]),
        ("the last 5 s only", [-1, -1, -1, 8, -1], [-1] * 5, [-1, -1, -1, 4, 5]),
    ],
)
def test_by_hand(readings: pl.DataFrame, name: str, left: list[int], right: list[int], gaze: list[int]) -> None:
    cut = off_text(readings, parts()[name])
    assert cut["question_id"].to_list() == [1, 2]
    assert cut["mouse_char_left"].to_list()[0] == left
    assert cut["mouse_char_right"].to_list()[0] == right
    assert cut["gaze_char_left"].to_list()[0] == gaze
    assert cut["t"].to_list() == [TIMES, TIMES], "times stay"
    assert cut["mouse_char_left"].to_list()[1] == [-1] * 5


def test_a_random_part_is_as_long_as_it_says_and_the_same_in_every_run() -> None:
    """Of readings of 100 ticks a second apart, five seconds are five ticks; the last visit is never the random one."""
    lengths = {"length_left": 50, "length_right": 50, "length_query": 5}
    times = {"t": [1_000 * tick for tick in range(100)], "mouse_x": [0.0] * 100}
    mouse = {
        "mouse_char_left": [1 if tick // 10 % 2 else -1 for tick in range(100)],
        "mouse_char_right": [-1 if tick // 10 % 2 else 1 for tick in range(100)],
    }
    read = {**dict.fromkeys(CARETS, [-1] * 100), **mouse}
    many = frame([{"question_id": number, **lengths, **times, **read} for number in range(40)])
    windows = {
        name: off_text(many, parts()[name]) for name in ("without 5 s at random", "without another visit at random")
    }
    for name, ticks in (("without 5 s at random", 5), ("without another visit at random", 10)):
        off = [
            [i for i in range(100) if left[i] < 0 and right[i] < 0]
            for left, right in zip(windows[name]["mouse_char_left"], windows[name]["mouse_char_right"], strict=True)
        ]
        assert {len(places) for places in off} == {ticks}
        assert all(places[-1] - places[0] == ticks - 1 for places in off), "in one piece"
        assert len({places[0] for places in off}) > 4, "not the same in all"
        assert off_text(many, parts()[name]).equals(windows[name])
    assert max(places[-1] for places in off) < 90


def test_reordered_ticks_last_as_long_as_they_did(readings: pl.DataFrame) -> None:
    back = reordered(readings, -pl.col("tick"))
    assert back["mouse_char_left"].to_list()[0] == [-1, 8, -1, -1, 3]
    # They lasted 1, 1, 7, 11 and 0 s.
    assert back["t"].to_list()[0] == [0, 0, 11_000, 18_000, 19_000]
    shuffled = reordered(readings, pl.col("draw"))
    assert sorted(shuffled["mouse_char_left"].to_list()[0]) == [-1, -1, -1, 3, 8]
    assert reordered(readings, pl.col("tick")).select(readings.columns).equals(readings)
