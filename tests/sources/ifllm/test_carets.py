"""A recorded caret becomes a char index only when the window text proves it, in code points."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sources.ifllm.conversation import LEFT, NOON, RIGHT, Tick, align, slow_char

DOTS = "." * 40 + "abc" + "." * 40


@pytest.mark.parametrize(
    ("text", "index", "window", "char", "status"),
    [
        pytest.param(LEFT, 14, LEFT[4:24], 14, "matched", id="mid-line"),
        pytest.param(LEFT, 0, LEFT[:10], 0, "matched", id="start"),
        pytest.param(LEFT, len(LEFT), LEFT[-10:], len(LEFT), "matched", id="end"),
        pytest.param(LEFT, len(LEFT) + 2, LEFT[-10:], len(LEFT), "matched", id="past-the-end"),
        pytest.param(LEFT, 17, "fox", 17, "matched", id="short-at-its-place"),
        pytest.param(LEFT, 50, "fox", -1, "elsewhere", id="short-elsewhere-proves-nothing"),
        pytest.param(DOTS, 28, "abc", 28, "matched", id="fifteen-before"),
        pytest.param(DOTS, 27, "abc", -1, "elsewhere", id="sixteen-before"),
        pytest.param(DOTS, 55, "abc", 55, "matched", id="fifteen-after"),
        pytest.param(DOTS, 56, "abc", -1, "elsewhere", id="sixteen-after"),
        pytest.param(LEFT, 50, "brown fox", 14, "repaired", id="restarted-index"),
        pytest.param("one two three. " * 3 + "x" * 40, 80, "two three", -1, "ambiguous", id="stands-more-than-once"),
        pytest.param(LEFT, 3, "Next Step", -1, "elsewhere", id="rating-form"),
        pytest.param(LEFT, 3, "", -1, "elsewhere", id="empty-window"),
        pytest.param("a.*b(c)[d] " * 2, 4, "a.*b(c)", 4, "matched", id="no-regular-expression"),
        pytest.param(RIGHT, 18, "🔧 with an ", 17, "matched", id="after-an-emoji"),
        pytest.param(RIGHT, 16, "answer 🔧", 16, "matched", id="before-an-emoji"),
        pytest.param(RIGHT, 17, "answer \ufffd", 16, "matched", id="inside-an-emoji"),
        pytest.param("🔧" * 30 + "the tail of it", 62, "🔧🔧the tail", 32, "matched", id="many-emoji"),
        pytest.param("🔧" * 30 + "the tail of it", 31, "the tail", 34, "repaired", id="code-points-would-be-wrong"),
    ],
)
def test_a_window_decides_about_its_caret(
    tmp_path: Path, text: str, index: int, window: str, char: int, status: str
) -> None:
    tick = Tick(NOON, {"gaze_left": (index, window), "mouse_right": (index, window)})
    aligned = align(tmp_path, [tick], texts=(text, text))
    row = aligned.ticks[0]
    assert (row["gaze_char_left"], row["mouse_char_right"]) == (char, char)
    assert (row["gaze_char_right"], row["mouse_char_left"]) == (-1, -1)
    assert aligned.statuses == {status: 2}


@given(
    st.text(st.sampled_from("ab 🔧é"), min_size=1, max_size=80),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 90), st.integers(0, 20)), min_size=1, max_size=15),
)
def test_any_caret_is_decided_as_documented(
    tmp_path_factory: pytest.TempPathFactory, text: str, carets: list[tuple[int, int, int]]
) -> None:
    given_carets = [(index, text[start : start + length]) for index, start, length in carets]
    ticks = [Tick(NOON + 80 * i, {"mouse_left": caret}) for i, caret in enumerate(given_carets)]
    rows = align(tmp_path_factory.mktemp("carets"), ticks, texts=(text, "")).ticks
    assert [row["mouse_char_left"] for row in rows] == [slow_char(text, *caret) for caret in given_carets]
