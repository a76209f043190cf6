"""Features are what their formulas say, for any reading, and only the reading of the text reaches them."""

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.catalogue import CATALOGUE, EVEN, ODD, names
from ifllm_hub.features.extract import extract_features
from tests.features.slow_features import CARETS, MODALITIES, Question, frame, question_lists, questions, slow_features


def extract(questions: list[Question]) -> list[dict[str, Any]]:
    return extract_features(frame(questions)).to_dicts()


def off_text(question: Question, at: int) -> bool:
    return all(question[caret][at] < 0 for caret in CARETS)


# --- against the slow computation


@settings(max_examples=60)
@given(question_lists(max_size=8))
def test_features_are_what_their_formulas_say(asked: list[Question]) -> None:
    for question, row in zip(asked, extract(asked), strict=True):
        assert row.pop("question_id") == question["question_id"]
        expected = slow_features(question)
        assert row.keys() == expected.keys()
        assert row == {
            name: None if value is None else pytest.approx(value, rel=1e-12, abs=1e-12)
            for name, value in expected.items()
        }


def test_the_simulated_dataset_has_the_features_of_its_trajectories(dataset: Path) -> None:
    readings = {row["question_id"]: row for row in load_config(dataset, "trajectories").to_dicts()}
    seen = 0
    for row in load_config(dataset, "features").to_dicts():
        if row["question_id"] in readings:
            expected = slow_features(readings[row["question_id"]])
            assert {name: row[name] for name in names()} == {
                name: None if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)
                for name, value in expected.items()
            }
            seen += row["mouse_dwell_left"] is not None
        else:
            assert all(row[feature.name] is None for feature in CATALOGUE if feature.modality != "text")
            assert row["length_left"] > 0
    assert seen > 40


def test_one_reading_by_hand() -> None:
    question = {
        "question_id": 1,
        "length_left": 100,
        "length_right": 50,
        "length_query": 7,
        #     left   left  left  off   right  left   off (after 5 s away)
        "t": [1_000, 1_100, 1_300, 1_400, 1_600, 1_700, 7_000],
        "mouse_x": [0.0] * 7,
        "mouse_char_left": [0, 40, 10, -1, -1, 60, -1],
        "mouse_char_right": [-1, -1, -1, -1, 25, -1, -1],
        "gaze_char_left": [-1, 20, -1, -1, -1, -1, -1],
        "gaze_char_right": [-1, -1, 30, -1, -1, -1, -1],
    }
    row = extract([question])[0]
    expected = {
        "mouse_dwell_left": 100 + 200 + 100 + 1000,
        "mouse_dwell_right": 100,
        "mouse_dwell_diff": 1300,
        "mouse_dwell_per_char_left": 14,
        "mouse_visits_left": 2,
        "mouse_visits_right": 1,
        "mouse_longest_visit_left": 1000,
        "mouse_first_seen_left": 1000,
        "mouse_last_seen_left": 1700,
        "mouse_first_seen_diff": -600,
        "mouse_depth_left": 0.6,
        "mouse_depth_right": 0.5,
        "mouse_coverage_left": 3 / 5,
        "mouse_coverage_right": 1 / 3,
        "mouse_forward_left": 40,
        "mouse_backward_left": 30,
        "mouse_regressions_left": 1,
        "mouse_position_mean_left": (200 * 40 + 100 * 10 + 1000 * 60) / 1400 / 100,
        "mouse_position_variance_right": 0,
        "mouse_first_side": 1,
        "mouse_last_side": 1,
        "mouse_switches": 2,
        "mouse_on_text": 1500 / 1700,
        "gaze_first_side": 1,
        "gaze_last_side": -1,
        "gaze_mouse_same_side": 200 / 300,
        "gaze_mouse_gap": 0.2,
    }
    assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_a_caret_behind_the_last_character_is_in_the_last_cell() -> None:
    carets = {name: [-1, -1] for name in CARETS} | {"mouse_char_left": [40, 39]}
    lengths = {"length_left": 40, "length_right": 1, "length_query": 1}
    row = extract([{"question_id": 1, "t": [0, 80], "mouse_x": [0, 0], **lengths, **carets}])[0]
    assert (row["mouse_coverage_left"], row["mouse_depth_left"]) == (1 / 2, 1)


# --- the mask


@settings(max_examples=30)
@given(questions(), st.integers(0, 2**32))
def test_where_the_cursor_is_on_the_screen_changes_nothing(question: Question, seed: int) -> None:
    """Off the text its place gives the rating away (docs: headroom.md 2); no coordinate may reach a feature."""
    elsewhere = random.Random(seed)
    moved = question | {"mouse_x": [elsewhere.uniform(-1e4, 1e4) for _ in question["t"]]}
    assert extract([moved]) == extract([question])
    without = extract_features(frame([question]).drop("mouse_x"))
    assert without.equals(extract_features(frame([question])))


@settings(max_examples=60)
@given(questions(), st.data())
def test_staying_off_the_text_changes_no_feature_but_the_share_on_text(question: Question, data: st.DataObject) -> None:
    pauses = [i for i in range(len(question["t"])) if off_text(question, i)]
    if not pauses:
        return
    after = data.draw(st.sampled_from(pauses))
    times = question["t"]
    until = times[after + 1] if after + 1 < len(times) else times[after] + 5000
    more = sorted(data.draw(st.lists(st.integers(times[after], until), max_size=4)))
    longer = dict(question)
    for name in ("t", "mouse_x", *CARETS):
        inserted = more if name == "t" else [-1] * len(more)
        longer[name] = [*question[name][: after + 1], *inserted, *question[name][after + 1 :]]
    before, then = extract([question])[0], extract([longer])[0]
    changed = {name for name in before if before[name] != then[name]}
    assert changed <= {f"{modality}_on_text" for modality in MODALITIES}


@settings(max_examples=30)
@given(questions())
def test_without_a_tick_on_text_a_modality_has_no_feature(question: Question) -> None:
    for modality in MODALITIES:
        never = {name: [-1] * len(question["t"]) for name in CARETS if name.startswith(modality)}
        row = extract([question | never])[0]
        assert all(row[f.name] is None for f in CATALOGUE if f.modality in (modality, "both"))
        assert all(row[f.name] is not None for f in CATALOGUE if f.name in ("length_left", "length_query"))


# --- symmetries


def swapped(question: Question) -> Question:
    sides = {"left": "right", "right": "left"}
    return {
        name: question[
            "_".join([*name.split("_")[:-1], sides[name.split("_")[-1]]]) if name.endswith(("left", "right")) else name
        ]
        for name in question
    }


@settings(max_examples=60)
@given(questions(modes=(True,)))
def test_swapping_the_answers_is_exact(question: Question) -> None:
    here, there = extract([question])[0], extract([swapped(question)])[0]
    for feature in CATALOGUE:
        value, other = here[feature.name], there[feature.name]
        if feature.swap == ODD:
            assert other == (None if value is None else -value)
        elif feature.swap == EVEN:
            assert other == value
        else:
            assert other == here[feature.swap]


@settings(max_examples=40)
@given(question_lists(max_size=6), st.randoms(use_true_random=False))
def test_a_question_has_the_same_features_in_any_company(asked: list[Question], random: random.Random) -> None:
    together = extract_features(frame(asked))
    one_by_one = pl.concat([extract_features(frame([question])) for question in asked])
    assert one_by_one.equals(together, null_equal=True)
    order = random.sample(range(len(asked)), len(asked))
    assert extract_features(frame([asked[i] for i in order])).equals(together[order], null_equal=True)


@settings(max_examples=30)
@given(questions(), st.integers(-500, 100_000))
def test_a_later_start_moves_the_times_and_nothing_else(question: Question, by: int) -> None:
    before, after = extract([question])[0], extract([question | {"t": [t + by for t in question["t"]]}])[0]
    for name in before:
        moves = name.endswith(("seen_left", "seen_right")) and before[name] is not None
        assert after[name] == (before[name] + by if moves else before[name])


@settings(max_examples=30)
@given(questions(modes=(False,)))
def test_pointwise_questions_have_nothing_to_compare(question: Question) -> None:
    row = extract([question])[0]
    compared = [f for f in CATALOGUE if f.swap == ODD or f.name.endswith(("_right", "_switches", "_same_side"))]
    assert all(row[feature.name] is None for feature in compared)


def test_values_are_plain_numbers(dataset: Path) -> None:
    features = load_config(dataset, "features").select(names())
    assert set(features.dtypes) == {pl.Float64}
    assert features.select(pl.all().is_finite().all()).row(0) == (True,) * len(CATALOGUE)
    units = {feature.name: feature.unit for feature in CATALOGUE}
    for name in features.columns:
        values = features[name].drop_nulls()
        assert len(values) > 0
        if units[name] in ("share", "count", "char", "ms") and not name.endswith("_diff"):
            assert values.min() >= 0
        if units[name] == "share" and not name.endswith("_diff"):
            assert values.max() <= 1
        if units[name] == "sign":
            assert set(values) == {-1.0, 1.0}


def test_no_questions_give_no_rows() -> None:
    empty = extract_features(frame([]))
    assert empty.columns == ["question_id", *names()]
    assert empty.height == 0
