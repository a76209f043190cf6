"""Attention: parts of a text by hand, and the ratio of a part's dwell to what is expected there."""

import math

import numpy as np
import polars as pl
import pytest

from ifllm_hub.patterns.attention import (
    BINS,
    LENGTH_CLASSES,
    Attention,
    _around,
    _by_column,
    _characters,
    _compared,
    attention,
)
from ifllm_hub.patterns.text_parts import CATEGORIES, parts_of
from tests.patterns.walks import odd_ones, walks

CELLS = 120


def test_parts_of_a_small_text() -> None:
    text = "It is so. Yes\n# Head\n- **one** item\n2. two of 3\nThe end"
    marks = dict(zip(CATEGORIES, parts_of(text), strict=True))
    shown = {name: "".join(c for c, on in zip(text, mark, strict=True) if on) for name, mark in marks.items()}
    assert shown["first sentence"] == "It is so."
    assert shown["heading"] == "# Head"
    assert shown["list item"] == "- **one** item2. two of 3"
    assert shown["bold"] == "**one**"
    assert shown["number"] == "two of 3"
    assert shown["last paragraph"] == "The end"
    assert shown["code"] == ""


@pytest.mark.parametrize("times", [1.0, 1.5])
def test_the_ratio_in_place_is_that_of_the_part_and_not_of_its_position(times: float) -> None:
    rng = np.random.default_rng(0)
    n = 400
    position = (np.arange(CELLS) + 0.5) / CELLS
    # The part is more frequent in the middle of the answers, and everybody begins at the top.
    chance = 0.2 + 0.6 * ((position > 0.25) & (position < 0.8))
    size = 10.0 * (rng.random((n, CELLS)) < chance)
    everything = np.full((n, CELLS), 10.0)
    rate = 1 + 6 * np.exp(-position / 0.08)
    time = times * size * rate
    dwell = time + (everything - size) * rate
    sums = _compared(time, size, dwell, everything, size, everything, np.zeros(n, dtype=int)).sum(axis=0)
    assert sums[4] / sums[5] == pytest.approx(times, rel=0.01)
    # Compared with the whole answer, it has less than its due.
    assert sums[2] / sums[3] < 0.85 * times


def test_where_a_line_begins_is_no_part_of_a_text() -> None:
    """A part that stands where lines begin, where nobody looks, is not read less than the rest in its place."""
    answers = pl.DataFrame({"text": ["ab cdefghi klmnopqr\n" * 200] * 2, "length": [4_000] * 2})
    text = _characters(answers)
    part = (np.arange(8_000) % 20 < 3) & (np.arange(8_000) // 20 % 2 == 0)
    dwell = np.where(np.arange(8_000) % 20 < 5, 1.0, 9.0)
    expected = _by_column(text, text.shown & ~part, np.ones(8_000), dwell)
    observed = dwell[part].sum() / expected[part].sum()
    assert observed == pytest.approx(dwell[~part & text.shown].sum() / expected[~part & text.shown].sum())
    assert dwell[part].mean() < 0.2 * dwell[~part].mean()


def test_a_dataset_has_parts_and_strips() -> None:
    found = attention(walks())
    assert [one.category for one in found.parts if one.modality == "mouse"] == [
        name for name in CATEGORIES if name != "code"
    ]
    for part in found.parts:
        assert part.low <= part.ratio <= part.high
        assert math.isnan(part.in_place) == (part.category in ("first sentence", "last paragraph"))
    assert len(found.effects) == 2 * (7 + 5)
    for strip in found.strips:
        assert len(strip.density) == BINS
        assert np.mean(strip.density) == pytest.approx(1)
        assert all(many >= few for many, few in zip(strip.unread, strip.untouched, strict=True))


def test_what_was_not_read_is_looked_for_in_as_many_characters_of_every_answer() -> None:
    values = np.concatenate([np.arange(60.0), np.arange(400.0)])
    found = _around(values, np.array([0, 60, 460]))
    for answer, length, b in ((0, 60, 0), (0, 60, 20), (1, 400, 0), (1, 400, 20), (1, 400, 39)):
        middle = (2 * b + 1) * length // (2 * BINS)
        assert found[answer, b] == sum(range(max(middle - 10, 0), min(middle + 10, length)))


def test_what_lacks_something_lacks_it_here_too() -> None:
    found = {name: attention(readings) for name, readings in odd_ones().items()}
    assert {one.modality for one in found["no gaze"].strips} == {"mouse"}
    assert {one.modality for one in found["no mouse"].strips} == {"gaze"}
    assert found["nothing"] == Attention([], [], [])
    for name in ("one worker", "one question", "single answers"):
        assert found[name].strips
    for name in ("one worker", "three workers", "one question"):
        assert not found[name].parts
        assert not found[name].effects
    assert len(found["no ratings"].strips) == 2 * LENGTH_CLASSES
