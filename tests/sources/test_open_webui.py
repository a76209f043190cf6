"""Open WebUI's feedback export as a source: what becomes of thumbs, trees of answers, edits and broken files."""

import json
import time
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.open_webui import open_open_webui
from ifllm_hub.sources.source import Recorded
from tests.sources.made_open_webui import Chat, export, feedback


def read(folder: Path, feedbacks: Any) -> Recorded[Counter[str]]:
    source = open_open_webui(export(folder, feedbacks))
    assert source.workers == set(source.people)
    assert list(source.people) == sorted(source.people)
    return source.read(list(source.people))


def two_answers(*, model_b: str = "large") -> Chat:
    chat = Chat()
    question = chat.ask("why is the sky blue?")
    chat.answer(question, "a: it is not", model="small")
    chat.answer(question, "b: air scatters blue light", model=model_b)
    return chat


def test_a_thumb_on_a_lone_answer_is_a_rating(tmp_path: Path) -> None:
    chat = Chat()
    first = chat.answer(chat.ask("one?"), "1")
    second = chat.answer(chat.ask("two?", after=first), "2")
    recorded = read(tmp_path, [feedback(chat, second, -1, details={"rating": 3}), feedback(chat, first, "1")])
    assert recorded.account == {"feedbacks: pointwise": 2}
    assert recorded.questions.select(
        "mode", "turn", "query", "response_left", "response_right", "rating_left", "details_left", "preference"
    ).rows() == [
        ("pointwise", 1, "one?", "1", None, 5, None, None),
        ("pointwise", 2, "two?", "2", None, 1, 3, None),
    ]
    assert recorded.questions["conversation_id"].n_unique() == 1
    assert [[message["content"] for message in chat] for chat in recorded.questions["context"]] == [
        ["one?"],
        ["one?", "1", "two?"],
    ]
    assert recorded.questions["asked_at"].dt.epoch("s").to_list() == [1_735_689_600] * 2


@pytest.mark.parametrize(("rated", "rating", "preferred"), [("a:", 1, "left"), ("b:", 1, "right"), ("a:", -1, "right")])
def test_a_thumb_on_one_of_two_answers_prefers_one(tmp_path: Path, rated: str, rating: int, preferred: str) -> None:
    recorded = read(tmp_path, [feedback(two_answers(), rated, rating, sibling_model_ids=["other"])])
    assert recorded.account == {"feedbacks: pairwise": 1}
    pair = recorded.questions.row(0, named=True)
    assert (pair["mode"], pair["preference"]) == ("pairwise", preferred)
    assert (pair["model_left"], pair["model_right"]) == ("small", "large")
    rating_of = {"a:": pair["rating_left"], "b:": pair["rating_right"]}
    assert rating_of.pop(rated) == {1: 5, -1: 1}[rating]
    assert list(rating_of.values()) == [None]


def test_two_thumbs_on_one_pair_are_one_row(tmp_path: Path) -> None:
    chat = two_answers()
    for second, preference in ((-1, "left"), (1, None)):
        recorded = read(tmp_path, [feedback(chat, "a:", 1), feedback(chat, "b:", second, at=1_735_700_001)])
        assert recorded.account == {"feedbacks: pairwise": 2}
        assert recorded.questions["preference"].to_list() == [preference]
        assert recorded.questions["rating_right"].to_list() == [{1: 5, -1: 1}[second]]


def test_the_arena_hides_names_and_the_export_does_not(tmp_path: Path) -> None:
    chat = Chat()
    question = chat.ask("why?")
    for name in ("x", "y"):
        chat.answer(question, f"{name}: because", model="arena-model", arena=True, selectedModelId=f"really-{name}")
    pair = read(tmp_path, [feedback(chat, "y:", 1)]).questions.row(0, named=True)
    assert (pair["model_left"], pair["model_right"], pair["preference"]) == ("really-x", "really-y", "right")


@given(thumbs=st.lists(st.sampled_from([1, -1, None]), min_size=1, max_size=6).filter(lambda thumbs: any(thumbs)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_pairs_of_many_answers_are_those_that_thumbs_decide(thumbs: list[int | None], tmp_path: Path) -> None:
    """Against a count by hand, pair by pair. An only thumb up wins as often as on Open WebUI's leaderboard."""
    chat = Chat()
    question = chat.ask("why?")
    for number in range(len(thumbs)):
        chat.answer(question, f"{number}", model=f"model {number}")
    rows = [feedback(chat, f"{n}", thumb, at=1_735_700_000 + n) for n, thumb in enumerate(thumbs) if thumb]
    recorded = read(tmp_path, rows)
    expected: dict[tuple[str, str], str | None] = {}
    for left, one in enumerate(thumbs):
        for right, other in enumerate(thumbs[left + 1 :], start=left + 1):
            names = (f"model {left}", f"model {right}")
            if one and other:
                expected[names] = None if one == other else "left" if one > other else "right"
            elif 1 in (one, other) or ((one or other) and len(thumbs) == 2):
                expected[names] = "left" if (one or 0) > (other or 0) else "right"
    pairs = recorded.questions.filter(mode="pairwise")
    assert dict(zip(pairs.select("model_left", "model_right").rows(), pairs["preference"], strict=True)) == expected
    compared = {name for names in expected for name in names}
    single = recorded.questions.filter(mode="pointwise")["model_left"].to_list()
    assert sorted(single) == [f"model {n}" for n, thumb in enumerate(thumbs) if thumb and f"model {n}" not in compared]
    assert recorded.account.total() == len(rows)
    if [thumb for thumb in thumbs if thumb] == [1]:
        won = {"left": "model_left", "right": "model_right"}
        winners = [row[won[row["preference"]]] for row in pairs.iter_rows(named=True)]
        assert winners == [f"model {thumbs.index(1)}"] * (len(thumbs) - 1)


def test_the_latest_feedback_about_an_answer_counts(tmp_path: Path) -> None:
    chat = Chat()
    chat.answer(chat.ask("why?"), "because")
    early = feedback(chat, "because", 1, at=1_735_700_000)
    chat.messages["because"]["content"] = "because of that"
    late = feedback(chat, "because", -1, at=1_735_700_009)
    for rows in ([late, early], [early, late]):
        recorded = read(tmp_path, rows)
        assert recorded.account == {"feedbacks: pointwise": 1, "feedbacks: replaced": 1}
        assert recorded.questions.select("response_left", "rating_left").row(0) == ("because of that", 1)


def test_an_answer_made_after_the_thumb_is_in_no_pair_and_ids_stay(tmp_path: Path) -> None:
    chat = two_answers()
    before = read(tmp_path, [feedback(chat, "a:", 1)]).questions
    rows = [feedback(chat, "a:", 1)]
    chat.answer("why", "c: late")
    rows.append(feedback(chat, "b:", -1, at=1_735_700_001))
    after = read(tmp_path, rows).questions
    assert after["question_id"].to_list() == before["question_id"].to_list()
    assert after.select("rating_left", "rating_right", "preference").row(0) == (5, 1, "left")


def test_what_is_not_usable_is_counted(tmp_path: Path) -> None:
    chat = two_answers()
    gone = feedback(chat, "a:", 1, user="gone")
    del gone["snapshot"]["chat"]["chat"]["history"]["messages"]["a:"]
    lost = feedback(chat, "a:", 1, user="lost")
    del lost["snapshot"]["chat"]["chat"]["history"]["messages"]["why"]
    shared = feedback(chat, "a:", 1, user="shared") | {"snapshot": None}
    vote = feedback(chat, "a:", 1, user="vote") | {"type": "survey"}
    failed = feedback(chat, "a:", 1, user="failed")
    failed["snapshot"]["chat"]["chat"]["history"]["messages"]["a:"]["error"] = True
    circle = feedback(chat, "a:", 1, user="circle")
    circle["snapshot"]["chat"]["chat"]["history"]["messages"]["why"]["parentId"] = "a:"
    recorded = read(tmp_path, [gone, lost, shared, vote, failed, circle, feedback(chat, "a:", None, user="none")])
    assert recorded.account == {
        "feedbacks: without an answer": 2,
        "feedbacks: without a question": 2,
        "feedbacks: without a snapshot": 1,
        "feedbacks: of another type": 1,
        "feedbacks: without a thumb": 1,
    }
    assert recorded.questions.is_empty()
    assert recorded.trajectories.is_empty()


def test_a_deleted_answer_is_in_no_pair(tmp_path: Path) -> None:
    row = feedback(two_answers(), "a:", 1)
    del row["snapshot"]["chat"]["chat"]["history"]["messages"]["b:"]
    moved = feedback(two_answers(), "a:", 1, user="moved")
    moved["snapshot"]["chat"]["chat"]["history"]["messages"]["b:"]["parentId"] = "a:"
    assert read(tmp_path, [row, moved]).account == {"feedbacks: pointwise": 2}


def test_what_the_page_folds_away_is_cut_out(tmp_path: Path) -> None:
    chat = Chat()
    thought = '<details type="reasoning" done="true" duration="2">\n<summary>Thought</summary>\n> hm\n</details>\n'
    call = '<details type="tool_calls" done="true" id="1"></details>'
    question = chat.ask(f"why {thought}?")
    chat.answer(
        question, f'x {thought}It is <details><summary>so</summary>kept</details> {call}for <details type="reasoning"'
    )
    row = read(tmp_path, [feedback(chat, "x", 1)]).questions.row(0, named=True)
    assert row["query"] == f"why {thought}?"
    assert (
        row["response_left"] == 'x \nIt is <details><summary>so</summary>kept</details> for <details type="reasoning"'
    )


def test_texts_keep_every_character_that_can_be_written(tmp_path: Path) -> None:
    chat = Chat(id="\ud83d")
    chat.answer(chat.ask("\u05d0\u0301 \U0001f600"), "half of one: \ud83d", model="m\udc00")
    recorded = read(tmp_path, [feedback(chat, "half", 1, user="\ud83d")])
    row = recorded.questions.row(0, named=True)
    assert (row["query"], row["response_left"], row["model_left"]) == (
        "\u05d0\u0301 \U0001f600",
        "half of one: ?",
        "m?",
    )
    assert recorded.trajectories["length_query"].to_list() == [4]
    recorded.questions.write_parquet(tmp_path / "questions.parquet")


def test_nobody_reads_a_user_id_in_the_rows(tmp_path: Path) -> None:
    chat = two_answers()
    recorded = read(tmp_path, [feedback(chat, "a:", 1, user=name) for name in ("anna", "bert")])
    assert recorded.questions["worker_id"].n_unique() == recorded.questions["question_id"].n_unique() == 2
    assert recorded.questions["worker_id"].str.contains(r"^openwebui_[0-9a-f]{16}$").all()
    assert not {"anna", "bert", "ignored"} & {str(cell) for row in recorded.questions.rows() for cell in row}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"id,user_id,rating\n1,2,1\n", "not JSON"),
        (b'[{"id": "f", "user_id"', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"feedbacks": []}', "not a list of feedbacks"),
        (b'[{"id": "c", "user_id": "u", "title": "t", "chat": {}}]', "entry 0 is a chat"),
        (b"[1]", "entry 0 is no feedback"),
        (b'[{"user_id": 7, "type": "rating"}]', "entry 0 is no feedback"),
    ],
)
def test_another_file_is_refused_with_what_to_do(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "feedback.json"
    file.write_bytes(content)
    with pytest.raises(IfllmError, match=says) as raised:
        open_open_webui(file)
    assert "Evaluations > Feedbacks" in str(raised.value)
    with pytest.raises(IfllmError, match="cannot be read"):
        open_open_webui(tmp_path)
    with pytest.raises(IfllmError, match="cannot be read"):
        open_open_webui(tmp_path / "missing.json")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["a:", "b:", "why", "1", "-1"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["chat", "a:"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, below in inner for place in places(below, (*path, key)))]


VALID = [feedback(two_answers(), "a:", 1, details={"rating": 9}), feedback(two_answers(), "b:", -1, user="other")]


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
def test_any_json_is_an_error_or_a_source(data: st.DataObject, tmp_path: Path) -> None:
    rows: Any = deepcopy(VALID)
    for _ in range(data.draw(st.integers(1, 3))):
        *above, key = data.draw(st.sampled_from([place for place in places(rows) if place]))
        holder = rows
        for step in above:
            holder = holder[step]
        holder[key] = data.draw(ANYTHING)
    check_source_or_error(tmp_path, rows)


@given(value=ANYTHING)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_json_of_no_known_shape_is_an_error_or_a_source(value: Any, tmp_path: Path) -> None:
    check_source_or_error(tmp_path, value)


def check_source_or_error(folder: Path, rows: Any) -> None:
    expected = read(folder, VALID)
    try:
        recorded = read(folder, rows)
    except IfllmError:
        return
    assert recorded.account.total() == len(rows)
    assert recorded.questions.schema == expected.questions.schema
    assert recorded.trajectories.schema == expected.trajectories.schema
    assert recorded.questions["question_id"].is_unique().all()
    assert recorded.questions["question_id"].to_list() == recorded.trajectories["question_id"].to_list()
    assert (recorded.questions["question_id"] > 0).all()
    assert (recorded.questions["turn"] > 0).all()
    must = pl.col("worker_id", "conversation_id", "mode", "query", "response_left").is_null()
    assert recorded.questions.filter(pl.any_horizontal(must)).is_empty()


def test_thousands_of_answers_to_one_question_are_not_paired(tmp_path: Path) -> None:
    chat = Chat()
    question = chat.ask("why?")
    for number in range(3_000):
        chat.answer(question, f"{number}")
    assert read(tmp_path, [feedback(chat, "7", 1)]).account == {"feedbacks: pointwise": 1}


@pytest.mark.slow
def test_ten_thousand_feedbacks_take_seconds(tmp_path: Path) -> None:
    rows = []
    for number in range(10_000):
        chat = Chat(id=f"chat {number}")
        last = None
        for turn in range(3):
            question = chat.ask(f"q{turn} " + "why? " * 20, after=last)
            last = chat.answer(question, f"a{turn} " + "because " * 100)
        chat.answer(question, "b " + "so " * 100)
        rows.append(feedback(chat, "b", 1, user=f"user {number % 500}", at=1_735_700_000 + number))
    file = export(tmp_path, rows)
    started = time.monotonic()
    source = open_open_webui(file)
    recorded = source.read(list(source.people))
    assert time.monotonic() - started < 20
    assert recorded.account == {"feedbacks: pairwise": 10_000}
    assert recorded.questions["preference"].to_list() == ["right"] * 10_000
    assert json.loads(file.read_text())[0]["user_id"] == "user 0"
