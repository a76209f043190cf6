"""What a source hands over is completed, or refused by the question that breaks the contract."""

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.frames import as_questions, as_trajectories

ROWS = [
    {
        "question_id": 1,
        "worker_id": "ada",
        "task_id": 7,
        "query": "Why?",
        "response_left": "So.",
        "response_right": "No.",
    },
    {
        "question_id": 2,
        "worker_id": "bo",
        "task_id": 8,
        "query": "And?",
        "response_left": "😀!",
        "response_right": None,
    },
]


def asked(**changes: object) -> pl.DataFrame:
    rows = pl.DataFrame(ROWS)
    return rows.with_columns(**{name: pl.lit(value) for name, value in changes.items()})


def test_what_is_missing_is_filled_in() -> None:
    questions = as_questions(asked(preference="left"))
    assert questions.select("mode", "conversation_id", "turn", "preference", "model_right", "ai_error").rows() == [
        ("pairwise", "ada/7", 1, "left", "unknown", False),
        ("pointwise", "bo/8", 1, None, None, False),
    ]
    ticks = pl.DataFrame({"question_id": [2, 2, 2], "t": [0, 80, 80], "gaze_char_left": [0, 2, -1]})
    read = as_trajectories(questions, ticks, "f1")
    assert read["question_id"].equals(questions["question_id"])
    assert read.select("schema_version", "length_left", "length_right").rows() == [(None, 3, 3), ("f1", 2, None)]
    assert read["t"].to_list() == [[], [0, 80, 80]]
    assert read["gaze_char_left"].to_list() == [[], [0, 2, -1]]
    assert read["mouse_char_left"].to_list() == [[], [-1, -1, -1]]
    assert read["mouse_x"].to_list() == [[], [None, None, None]]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"question_id": 0}, "question_id 0 of a source is below 1"),
        ({"task_id": "seven"}, "task_id of a source's questions is no Int64"),
        ({"query": None}, "has no query"),
        ({"rating_left": "good"}, "rating_left of a source's questions is no Int8"),
    ],
)
def test_a_question_that_breaks_the_contract(changes: dict[str, object], said: str) -> None:
    with pytest.raises(IfllmError, match=said):
        as_questions(asked(**changes))
    with pytest.raises(IfllmError, match="lack the column query"):
        as_questions(asked().drop("query"))


@pytest.mark.parametrize(
    ("tick", "said"),
    [
        ({"t": -5}, "ticks of question 1 begin before 0"),
        ({"t": 50}, "not in the order of t"),
        ({"gaze_char_left": 4}, r"A tick of question 1 lies outside the left answer \(gaze\)"),
        ({"mouse_char_right": -2}, r"outside the right answer \(mouse\)"),
        ({"question_id": 2, "mouse_char_right": 0}, "question 2 lies outside the right answer .*, or there is none"),
    ],
)
def test_a_tick_that_breaks_the_contract(tick: dict[str, int], said: str) -> None:
    first = {"question_id": 1, "t": 100, "gaze_char_left": 3, "mouse_char_right": 3}
    ticks = pl.DataFrame([first, {**first, "t": 180, "mouse_char_right": -1, **tick}])
    with pytest.raises(IfllmError, match=said):
        as_trajectories(as_questions(asked()), ticks)
