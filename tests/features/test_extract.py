"""Features are what their formulas say, for any reading, and only the reading of the text reaches them."""

import random
from math import log
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.catalog import CATALOG, EVEN, ODD, Feature, names
from ifllm_hub.features.extract import extract_features
from tests.features.slow_features import CARETS, MODALITIES, Question, frame, question_lists, questions, slow_features


def extract(questions: list[Question]) -> list[dict[str, Any]]:
    return extract_features(frame(questions)).to_dicts()


def within_range(feature: Feature, value: float) -> bool:
    return (feature.low is None or value >= feature.low) and (feature.high is None or value <= feature.high)


def off_text(question: Question, at: int) -> bool:
    return all(question[caret][at] < 0 for caret in CARETS)


# --- against the slow computation


@given(question_lists(max_size=8))
def test_features_are_what_their_formulas_say(asked: list[Question]) -> None:
    for question, row in zip(asked, extract(asked), strict=True):
        assert row.pop("question_id") == question["question_id"]
        expected = slow_features(question)
        assert row.keys() == expected.keys()
        for feature in CATALOG:
            value = row[feature.name]
            assert value is None or within_range(feature, value)
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
            assert all(row[feature.name] is None for feature in CATALOG if feature.modality != "text")
            assert row["length_left"] > 0
    assert seen > 40


# left, right; the difference is theirs.
BY_SIDE = {
    "dwell": (100 + 200 + 100 + 1000, 100),
    "dwell_per_char": (14, 2),
    "visits": (2, 1),
    "longest_visit": (1000, 100),
    "return_dwell": (1000, 0),
    "first_seen": (1000, 1600),
    "last_seen": (1700, 1600),
    "pauses": (1, 0),
    "pause_dwell": (1000, 0),
    "depth": (0.6, 0.5),
    # The ticks begin 0, 100, 300, 400 and 500 ms into 1500 ms of reading: quarters 1, 1, 1, 2 and 2.
    "progress_quarter_1": (0.4, 0),
    "progress_quarter_2": (0.6, 0.5),
    "progress_quarter_3": (0.6, 0.5),
    # Cells 0, 2, 0 and 3 of five; cell 1 of three.
    "coverage": (3 / 5, 1 / 3),
    "cells": (3, 1),
    "cells_300ms": (1, 0),
    "position_mean": ((200 * 40 + 100 * 10 + 1000 * 60) / 1400 / 100, 0.5),
    "position_variance": (((200 * 40**2 + 100 * 10**2 + 1000 * 60**2) / 1400 - (69_000 / 1400) ** 2) / 100**2, 0),
    "head_share": ((100 + 100) / 1400, 0),
    "tail_share": (0, 0),
    "forward": (40, 0),
    "backward": (30, 0),
    "regressions": (1, 0),
    "lookback_share": (100 / 1400, 0),
    "speed": (40 / 1.4, 0),
}
OF_MOUSE = {
    "dwell_log_ratio": log((1400 + 500) / (100 + 500)),
    "dwell_per_char_log_ratio": log((14 + 1) / (2 + 1)),
    "longest_visit_log_ratio": log((1000 + 500) / (100 + 500)),
    "cells_log_ratio": log((3 + 1) / (1 + 1)),
    "forward_log_ratio": log((40 + 20) / (0 + 20)),
    "balance": 1300 / 1500,
    "balance_quarter_1": 1,
    "balance_quarter_2": (1000 - 100) / 1100,
    "balance_quarter_3": None,
    "balance_quarter_4": None,
    "first_side": 1,
    "last_side": 1,
    "first_stay_share": 400 / 1500,
    "switches": 2,
    "dwell_total": 1500,
    "on_text": 1500 / 1700,
}
OTHERS = {
    "gaze_mouse_dwell_left": 200,
    "gaze_mouse_dwell_right": 0,
    "gaze_mouse_dwell_diff": 200,
    "gaze_mouse_dwell_log_ratio": log(700 / 500),
    # The gaze was 200 ms on the left and 100 ms on the right.
    "gaze_minus_mouse_log_ratio": log((200 + 500) / (100 + 500)) - log((1400 + 500) / (100 + 500)),
    "gaze_mouse_agreement": 1,
    "gaze_mouse_same_side": 200 / 300,
    "gaze_mouse_gap": 0.2,
    "length_left": 100,
    "length_right": 50,
    "length_query": 7,
    "length_log_ratio": log(2),
    "length_log_sum": log(150),
}
# 1 s of 60 characters of the left answer; 2 s (of 3) of 40 more with 40 of the right one; nothing from then on.
ON_SCREEN = {
    "dwell": (3000, 2000),
    "exposure": (1000 + 1000, 1000),
    # The left one's part is in the upper half of the upper half, the right one's in the middle half of the window.
    "central_exposure": (1000 + 2000 * 0.25 / (0.25 + 0.75), 2000 * 0.75 / (0.25 + 0.75)),
    "exposure_per_char": ((1000 * 60 + 2000 * 40) / 100, 2000 * 40 / 50),
    "coverage": (1, 0.8),
}


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
        "viewport_height": 800,
        "viewport_t": [0, 1_000, 4_000],
        "viewport_first_left": [0, 60, -1],
        "viewport_last_left": [59, 99, -1],
        "viewport_share_left": [0.6, 0.4, 0.0],
        "viewport_top_left": [100, 0, None],
        "viewport_bottom_left": [700, 200, None],
        "viewport_first_right": [-1, 0, -1],
        "viewport_last_right": [-1, 39, -1],
        "viewport_share_right": [0.0, 0.8, 0.0],
        "viewport_top_right": [None, 200, None],
        "viewport_bottom_right": [None, 600, None],
    }
    row = extract([question])[0]
    expected = OTHERS | {f"mouse_{name}": value for name, value in OF_MOUSE.items()}
    for modality, by_side in (("mouse", BY_SIDE), ("viewport", ON_SCREEN)):
        for name, (left, right) in by_side.items():
            stem = f"{modality}_{name}"
            expected |= {f"{stem}_left": left, f"{stem}_right": right, f"{stem}_diff": left - right}
    for name, floor in (("dwell", 500), ("exposure", 500), ("central_exposure", 500), ("exposure_per_char", 1)):
        left, right = ON_SCREEN[name]
        expected[f"viewport_{name}_log_ratio"] = log((left + floor) / (right + floor))
    assert expected.keys() == {feature.name for feature in CATALOG if feature.modality != "gaze"}
    assert {name: row[name] for name in expected} == {
        name: None if value is None else pytest.approx(value) for name, value in expected.items()
    }
    assert (row["gaze_first_side"], row["gaze_last_side"], row["gaze_switches"]) == (1, -1, 1)


def test_a_caret_behind_the_last_character_is_in_the_last_cell() -> None:
    carets = {name: [-1, -1] for name in CARETS} | {"mouse_char_left": [40, 39]}
    lengths = {"length_left": 40, "length_right": 1, "length_query": 1}
    row = extract([{"question_id": 1, "t": [0, 80], "mouse_x": [0, 0], **lengths, **carets}])[0]
    assert (row["mouse_coverage_left"], row["mouse_depth_left"]) == (1 / 2, 1)


def test_thirds_of_an_answer_begin_at_their_first_character() -> None:
    carets = {name: [-1] * 5 for name in CARETS} | {"mouse_char_left": [19, 20, 39, 40, -1]}
    lengths = {"length_left": 60, "length_right": 1, "length_query": 1}
    row = extract([{"question_id": 1, "t": [0, 10, 110, 210, 1_000], "mouse_x": [0] * 5, **lengths, **carets}])[0]
    assert (row["mouse_head_share_left"], row["mouse_tail_share_left"]) == (10 / 1000, 790 / 1000)


# --- the mask


@given(questions(), st.integers(0, 2**32))
def test_where_the_cursor_is_on_the_screen_changes_nothing(question: Question, seed: int) -> None:
    """Off the text its place gives the rating away (docs/format.md 5); no coordinate may reach a feature."""
    elsewhere = random.Random(seed)
    moved = question | {"mouse_x": [elsewhere.uniform(-1e4, 1e4) for _ in question["t"]]}
    assert extract([moved]) == extract([question])
    without = extract_features(frame([question]).drop("mouse_x"))
    assert without.equals(extract_features(frame([question])))


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


@given(questions())
def test_without_a_tick_on_text_a_modality_has_no_feature(question: Question) -> None:
    for modality in MODALITIES:
        never = {name: [-1] * len(question["t"]) for name in CARETS if name.startswith(modality)}
        row = extract([question | never])[0]
        assert all(row[f.name] is None for f in CATALOG if f.modality in (modality, "both"))
        assert all(row[f.name] is not None for f in CATALOG if f.name in ("length_left", "length_query"))


# --- symmetries


def swapped(question: Question) -> Question:
    sides = {"left": "right", "right": "left"}
    return {
        name: question[
            "_".join([*name.split("_")[:-1], sides[name.split("_")[-1]]]) if name.endswith(("left", "right")) else name
        ]
        for name in question
    }


@given(questions(modes=(True,)))
def test_swapping_the_answers_is_exact(question: Question) -> None:
    here, there = extract([question])[0], extract([swapped(question)])[0]
    for feature in CATALOG:
        value, other = here[feature.name], there[feature.name]
        if feature.swap == ODD:
            assert other == (None if value is None else -value)
        elif feature.swap == EVEN:
            assert other == value
        else:
            assert other == here[feature.swap]


@given(question_lists(max_size=6), st.randoms(use_true_random=False))
def test_a_question_has_the_same_features_in_any_company(asked: list[Question], random: random.Random) -> None:
    together = extract_features(frame(asked))
    one_by_one = pl.concat([extract_features(frame([question])) for question in asked])
    assert one_by_one.equals(together, null_equal=True)
    order = random.sample(range(len(asked)), len(asked))
    assert extract_features(frame([asked[i] for i in order])).equals(together[order], null_equal=True)


@given(question_lists(max_size=8), st.integers(1, 30))
def test_however_many_ticks_at_once_the_bits_are_the_same(asked: list[Question], ticks: int) -> None:
    rows = frame(asked)
    sliced, whole = extract_features(rows, ticks), extract_features(rows)
    assert sliced["question_id"].equals(whole["question_id"])
    assert _bits(sliced) == _bits(whole)


@pytest.mark.parametrize("ticks", [1, 100, 1_000])
def test_a_dataset_in_slices_is_the_same_to_the_bit(dataset: Path, ticks: int) -> None:
    rows = load_config(dataset, "trajectories").head(60)
    assert _bits(extract_features(rows, ticks)) == _bits(extract_features(rows))


def _bits(features: pl.DataFrame) -> list[bytes]:
    """Of every number; null is told apart from all numbers, and 0.0 from -0.0."""
    columns = features.select(names())
    return [columns[name].to_numpy().tobytes() + columns[name].is_null().to_numpy().tobytes() for name in names()]


@given(questions(), st.integers(-500, 100_000))
def test_a_later_start_moves_the_times_and_nothing_else(question: Question, by: int) -> None:
    before, after = extract([question])[0], extract([question | {"t": [t + by for t in question["t"]]}])[0]
    for name in before:
        moves = name.endswith(("seen_left", "seen_right")) and before[name] is not None
        assert after[name] == (before[name] + by if moves else before[name])


TIME, TEXT = ("ms", "s"), ("char",)


def power(unit: str, stretched: tuple[str, ...]) -> int:
    """Of the stretched units in a unit: 1 above the line, -1 below."""
    above, *below = unit.split("/")
    return (above in stretched) - any(part in stretched for part in below)


def stretched(row: dict[str, Any], units: tuple[str, ...], by: int) -> dict[str, Any]:
    """What a stretched reading is to give, by what the catalog says; without the features that do not say."""
    told = [feature for feature in CATALOG if not set(feature.fixed) & set(units)]
    values = {feature.name: (row[feature.name], by ** power(feature.unit, units)) for feature in told}
    # Shares of a time on the screen are rounded down.
    near = {name: pytest.approx(value * by, abs=1e-5) for name, (value, by) in values.items() if value is not None}
    return dict.fromkeys(values) | near


@given(questions(steps_ms=(0, 1, 7, 80, 100)), st.integers(2, 10))
def test_slower_reading_stretches_what_its_unit_says(question: Question, by: int) -> None:
    slower = extract([question | {name: [by * t for t in question[name]] for name in ("t", "viewport_t")}])[0]
    expected = stretched(extract([question])[0], TIME, by)
    assert {name: slower[name] for name in expected} == expected
    assert {"mouse_dwell_left", "gaze_speed_diff", "mouse_progress_quarter_1_left", "mouse_balance"} <= expected.keys()


@given(questions(), st.integers(2, 10))
def test_longer_texts_stretch_what_its_unit_says(question: Question, by: int) -> None:
    longer = dict(question)
    for name in ("length_left", "length_right", "length_query"):
        longer[name] = question[name] and by * question[name]
    for name in CARETS:
        longer[name] = [by * char if char >= 0 else -1 for char in question[name]]
    for side in ("left", "right"):
        first, last = (f"viewport_{end}_{side}" for end in ("first", "last"))
        longer[first] = [by * char if char >= 0 else -1 for char in question[first]]
        longer[last] = [by * (char + 1) - 1 for char in question[last]]
    expected = stretched(extract([question])[0], TEXT, by)
    row = extract([longer])[0]
    assert {name: row[name] for name in expected} == expected
    assert {"mouse_dwell_log_ratio", "gaze_speed_diff", "mouse_head_share_left", "length_left"} <= expected.keys()


@given(questions(modes=(False,)))
def test_pointwise_questions_have_nothing_to_compare(question: Question) -> None:
    row = extract([question])[0]
    of_two = ("_right", "_switches", "_same_side", "_return_dwell_left", "_first_stay_share", "_agreement")
    compared = [f for f in CATALOG if f.swap == ODD or f.name.endswith(of_two)]
    assert all(row[feature.name] is None for feature in compared)


def test_values_are_plain_numbers(dataset: Path) -> None:
    features = load_config(dataset, "features").select(names())
    assert set(features.dtypes) == {pl.Float64}
    assert features.select(pl.all().is_finite().all()).row(0) == (True,) * len(CATALOG)
    for feature in CATALOG:
        values = features[feature.name].drop_nulls()
        if feature.modality == "viewport":  # the simulated release does not say what was on the screen, as the study's
            assert values.is_empty()
            continue
        assert len(values) > 0
        assert within_range(feature, values.min())
        assert within_range(feature, values.max())
        if feature.unit == "sign":
            assert set(values) == {-1.0, 1.0}


def test_no_questions_give_no_rows() -> None:
    empty = extract_features(frame([]))
    assert empty.columns == ["question_id", *names()]
    assert empty.height == 0
