"""Cut readings: the parts are disjoint, complete, and end where the cursor was last on text."""

import polars as pl
import pytest

from eval.studies.window import around_the_end
from tests.features.slow_features import CARETS, frame

NOBODY = dict.fromkeys(CARETS, [-1] * 4)


@pytest.fixture(scope="module")
def readings() -> pl.DataFrame:
    lengths = {"length_left": 50, "length_right": 50, "length_query": 5}
    times = {"t": [0, 1_000, 2_000, 9_000], "mouse_x": [0.0] * 4}
    read = {**NOBODY, "mouse_char_left": [3, -1, -1, -1], "mouse_char_right": [-1, -1, 7, -1]}
    return frame([{"question_id": 1, **lengths, **times, **read}, {"question_id": 2, **lengths, **times, **NOBODY}])


@pytest.mark.parametrize("ms", [1_500, 1_000])
def test_by_hand(readings: pl.DataFrame, ms: int) -> None:
    first, last = (around_the_end(readings, ms, before) for before in (True, False))
    assert first["t"].to_list() == [[0]]
    assert last["t"].to_list() == [[1_000, 2_000, 9_000]], "the tick at the cut comes after it"
    assert first["mouse_char_left"].to_list() == [[3]]
    assert last["mouse_char_right"].to_list() == [[-1, 7, -1]]
    assert first["question_id"].to_list() == last["question_id"].to_list() == [1], "2 was never on text"


def test_nothing_is_left_before_a_reading_that_is_shorter(readings: pl.DataFrame) -> None:
    assert around_the_end(readings, 5_000, True).is_empty()
    assert around_the_end(readings, 5_000, False)["t"].to_list() == [[0, 1_000, 2_000, 9_000]]
