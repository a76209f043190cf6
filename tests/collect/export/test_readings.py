"""From batches to trajectories: expected values by hand, and the same whatever way the ticks were cut into batches."""

import random
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ifllm_hub.collect.export.readings import Readings, readings_of
from tests.collect.client import reading
from tests.collect.conftest import Site

MOUSE, PEN, TOUCH, GAZE, NO_FACE = 0, 1, 2, 3, 4


def read(site: Site, person: str) -> Readings:
    with site.store.reading() as connection:
        return readings_of(connection, [site.pseudonyms.person(person)], site.pseudonyms)


def row(frame: pl.DataFrame) -> dict[str, Any]:
    assert frame.height == 1
    return frame.row(0, named=True)


def test_a_trajectory_by_hand(site: Site) -> None:
    tokens = site.pair("ada", "q1", left="abcde", right="fghij")
    site.send(
        tokens,
        events=[
            [900, "stream_start", 0, None],
            [1_200, "stream_start", 1, None],
            [1_160, "leave", 0, MOUSE],  # for the other answer
            [1_400, "leave", 1, MOUSE],
            [1_500, "leave", 1, MOUSE],  # it was gone by then
            [2_010, "leave", 0, GAZE],  # which was never there
        ],
        ticks=[
            [800, 0, 1, 1, 0, MOUSE],  # before the answer began
            [1_000, 0, 10, 20, 2, MOUSE],
            [1_080, 0, 11, 20, -1, MOUSE],  # on the answer, on no character
            [1_160, 1, 12, 20, 5, MOUSE],  # behind the last character
            [1_240, 1, 13, 20, 6, MOUSE],  # where no character can be
            [1_320, 1, 99, 20, 1, TOUCH],
            [2_000, 0, 14, 20, 4, MOUSE],
        ],
    )
    got = row(read(site, "ada").trajectories)
    assert got["t"] == [100, 180, 260, 340, 500, 1_100, 1_180]
    assert got["mouse_x"] == [
        10,
        11,
        12,
        13,
        None,
        14,
        None,
    ]  # None: off the answers, when that was said, or 80 ms after the last
    assert got["mouse_char_left"] == [2, -1, -1, -1, -1, 4, -1]
    assert got["mouse_char_right"] == [-1, -1, 5, -1, -1, -1, -1]
    assert got["gaze_x"] == got["face_ok"] == [None] * 7
    assert got["gaze_char_left"] == [-1] * 7
    assert (got["length_left"], got["length_right"], got["length_query"]) == (5, 5, len("What about q1?"))
    assert (got["viewport_width"], got["viewport_height"], got["schema_version"]) == (1280, 720, "c1")
    assert read(site, "ada").statuses == {"before_the_answer": 1, "kept": 5, "touch_or_pen": 1}


def test_a_busy_page_is_not_a_reader_who_left(site: Site) -> None:
    """Tasks of 350 ms, the cursor on the text all the time, until it leaves in the middle of one; once in two tabs."""
    token = site.register("ada", "q1", text="abcde")["token"]
    ticks = [[1_000 + 350 * n, 0, 1, 1, 2, MOUSE] for n in range(4)]
    site.send([token], ticks=ticks, events=[[2_400, "leave", 0, MOUSE]])
    site.send([token], session=1, ticks=[[9_000, 0, 1, 1, 3, MOUSE]])  # it ended without a word
    site.send([token], session=2, ticks=[[30_000, 0, 1, 1, 4, MOUSE]], events=[[40_000, "leave", 0, MOUSE]])
    got = row(read(site, "ada").trajectories)
    assert got["t"] == [0, 350, 700, 1_050, 1_400, 8_000, 8_080, 29_000, 39_000]
    assert got["mouse_char_left"] == [2, 2, 2, 2, -1, 3, -1, 4, -1]


def test_gaze_and_mouse_of_one_moment_are_one_tick(site: Site) -> None:
    token = site.register("ada", "q1", text="abcde")["token"]
    site.send(
        [token],
        events=[[1_000, "stream_start", 0, None]],
        ticks=[[1_080, 0, 10, 20, 2, MOUSE], [1_160, 0, 11, 20, 3, MOUSE]],
        gaze=[[1_160, 0, 50, 60, 4, GAZE], [1_240, 0, 51, 60, -1, NO_FACE]],
    )
    got = row(read(site, "ada").trajectories)
    assert got["t"] == [80, 160, 240, 320]
    assert got["mouse_x"] == [10, 11, None, None]
    assert got["mouse_char_left"] == [2, 3, -1, -1]
    assert got["gaze_x"] == [None, 50, 51, None]
    assert got["gaze_char_left"] == [-1, 4, -1, -1]
    assert got["face_ok"] == [None, True, False, None]
    assert site.send([token], sequence=1, gaze=[[1_160, 0, 50, 60, 4, MOUSE]]).status_code == 400


def test_what_was_on_the_screen(site: Site) -> None:
    """Both answers of a moment are one entry; one that is not named was not there; the rest is counted."""
    tokens = [
        site.register("ada", "q1", side, text)["token"] for side, text in (("left", "abcdefghij"), ("right", "xyz"))
    ]
    site.send(
        tokens,
        calibration=[74, 118],
        events=[[1_000, "stream_start", 0, None]],
        views=[
            [900, 0, 0, 0, 1_000, 10, 20],  # before the answer
            [1_080, 0, 0, 4, 500, 100, 400],
            [1_160, 0, 5, 40, 250, 0, 150],  # the page's text goes on after the registered one
            [1_160, 1, 0, 2, 1_000, 150, 300],
            [1_200, 0, -2, -2, 250, 0, 150],  # another text: what else was on the screen is not known either
            [1_200, 1, 0, 2, 1_000, 150, 300],
            [1_240, 0, -1, -1, 0, 0, 0],
            [1_240, 1, -1, -1, 0, 0, 0],
            [2_240, 0, -1, -1, 0, 0, 0],  # the old token of an answer that is there under its new one
            [2_240, 0, -1, -1, 10, 0, 3],  # of the box a little, of the text nothing
        ],
    )
    got = read(site, "ada")
    assert got.view_statuses == {"before_the_answer": 1, "kept": 8, "other_text": 1}
    seen = row(got.trajectories)
    assert seen["t"] == []
    assert (seen["gaze_accuracy"], seen["gaze_error"]) == (74, 118)
    assert seen["viewport_t"] == [80, 160, 240, 1_240]
    assert seen["viewport_first_left"] == [0, 5, -1, -1]
    assert seen["viewport_last_left"] == [4, 9, -1, -1]
    assert seen["viewport_share_left"] == pytest.approx([0.5, 0.25, 0, 0.01])
    assert seen["viewport_top_left"] == [100, 0, None, 0]
    assert seen["viewport_first_right"] == [-1, 0, -1, -1]
    assert seen["viewport_last_right"] == [-1, 2, -1, -1]
    assert seen["viewport_bottom_right"] == [None, 300, None, None]
    for wrong in ([1, 0, 0, 0, 1_001, 0, 0], [1, 2, 0, 0, 10, 0, 0], [1, 0, -3, 0, 10, 0, 0], [1, 0, 0, 0, 10, 0]):
        assert site.send(tokens, sequence=9, views=[wrong]).status_code == 400


def test_a_stream_that_was_never_completed_is_no_question(site: Site) -> None:
    begun = site.register("ada", "q1", text="")["token"]
    site.send([begun], events=[[1_000, "stream_start", 0, None]], views=[[1_000, 0, 0, 4, 1_000, 0, 20]])
    assert read(site, "ada").questions.is_empty()


def test_questions_by_hand(site: Site) -> None:
    tokens = site.pair("ada", "q1")
    single = site.register("ada", "q2", bullet_points=True)["token"]
    site.register("ada", "q3")  # of which nothing is recorded or said
    site.send([*tokens, single], events=[[1, "shown", 0, None]])
    for token, body in (
        (tokens[0], {"rating": 2, "preference": "left"}),
        (tokens[1], {"rating": 4, "preference": "right"}),  # on second thoughts
        (single, {"better_than_previous": True, "preference": "left"}),
        (single, {"rating": 3}),  # which takes nothing back
    ):
        assert site.post("ratings", {"token": token, **body}).status_code == 202
    first, second = read(site, "ada").questions.iter_rows(named=True)
    assert (first["mode"], first["rating_left"], first["rating_right"]) == ("pairwise", 2, 4)
    assert (first["preference"], first["better_than_previous"]) == ("right", None)
    assert (second["mode"], second["rating_left"], second["preference"]) == ("pointwise", 3, None)
    assert (second["better_than_previous"], second["bullet_points"]) == (True, True)
    assert (first["turn"], second["turn"]) == (1, 2)
    assert first["conversation_id"] == second["conversation_id"] == f"{first['worker_id']}/{first['task_id']}"
    assert first["question_id"] != second["question_id"]


def test_a_text_that_grew_keeps_its_ticks_and_one_that_was_replaced_does_not(site: Site) -> None:
    begun = site.register("ada", "q1", text="The answer")["token"]
    site.send([begun], ticks=[[1_000, 0, 1, 1, 4, MOUSE]])
    final = site.register("ada", "q1", text="The answer is 😀 42.")["token"]
    site.send([final], sequence=1, ticks=[[1_080, 0, 1, 1, 16, MOUSE]])
    assert row(read(site, "ada").trajectories)["mouse_char_left"] == [4, 16, -1]
    site.register("ada", "q1", text="Another answer altogether")
    got = read(site, "ada")
    assert got.statuses == {"replaced_text": 2}
    assert row(got.trajectories)["t"] == []


def test_what_was_read_on_another_text_is_counted_and_has_no_place(site: Site) -> None:
    """As on a page that the browser has translated."""
    token = site.register("ada", "q1", text="abcde")["token"]
    chars = [1, -2, -2, 3]
    site.send([token], ticks=[[1_000 + 80 * n, 0, 1, 1, char, MOUSE] for n, char in enumerate(chars)])
    got = read(site, "ada")
    assert got.statuses == {"kept": 2, "other_text": 2}
    assert row(got.trajectories)["t"] == [0, 80, 240, 320]
    assert row(got.trajectories)["mouse_char_left"] == [1, -1, 3, -1]
    assert site.send([token], sequence=1, ticks=[[1_000, 0, 1, 1, -3, MOUSE]]).status_code == 400


def test_two_tabs_and_two_people_do_not_mix(site: Site) -> None:
    here, there = site.register("ada", "q1")["token"], site.register("ada", "q2")["token"]
    other = site.register("bob", "q1")["token"]
    for token, session, char in ((here, 1, 11), (there, 2, 22), (other, 3, 33)):
        for sequence in range(2):
            start = 1_000 + 80 * sequence
            answer = site.send([token], session, sequence, ticks=[[start, 0, 1, 1, char + sequence, MOUSE]])
            assert answer.json() == {"accepted": True, "duplicate": False}
    ada, bob = read(site, "ada"), read(site, "bob")
    assert ada.trajectories["mouse_char_left"].to_list() == [[11, 12, -1], [22, 23, -1]]
    assert bob.trajectories["mouse_char_left"].to_list() == [[33, 34, -1]]
    assert not {*ada.questions["question_id"]} & {*bob.questions["question_id"]}
    assert not {*ada.questions["conversation_id"]} & {*bob.questions["conversation_id"]}


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 70), max_size=6), seed=st.integers(0, 9))
def test_any_cut_into_batches_gives_the_same_trajectory(site: Site, cuts: list[int], seed: int) -> None:
    ticks = reading(4, 0) + reading(1.6, 1, start=6_000, length=200)
    cut = f"cut-{seed}-{'-'.join(map(str, cuts))}"
    if not site.store.counts()["batches"]:
        site.send(site.pair("whole", "q1"), session=1, ticks=ticks)
    tokens = site.pair(cut, "q1")
    places = [0, *sorted(cuts), len(ticks)]
    parts = [(number, ticks[a:b]) for number, (a, b) in enumerate(pairwise(places))]
    random.Random(seed).shuffle(parts)  # as retries and beacons may overtake each other
    session = site.store.counts()["sessions"] + 1
    for number, part in parts:
        assert site.send(tokens, session, number, ticks=part).status_code == 202
    ids = ["question_id", "worker_id"]
    assert read(site, cut).trajectories.drop(ids).equals(read(site, "whole").trajectories.drop(ids))
