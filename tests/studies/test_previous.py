"""Pointwise features against the previous answer are those of a pair: this answer left, the previous one right."""

from math import log
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given

from eval.studies.previous import PREVIOUS, against_previous
from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.catalog import CATALOG, ODD
from ifllm_hub.features.extract import extract_features
from tests.features.slow_features import Question, frame, questions

NAMES = [feature.name for feature in PREVIOUS]


def turns(*rows: tuple[int, str, int]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["question_id", "conversation_id", "turn"], orient="row")


@given(questions(modes=(False,), question_id=1), questions(modes=(False,), question_id=2))
def test_it_compares_this_answer_with_the_previous_one(first: Question, second: Question) -> None:
    features = extract_features(frame([first, second]))
    rows = against_previous(features, turns((1, "a", 1), (2, "a", 2))).to_dicts()
    assert all(rows[0][name] is None for name in NAMES)
    one, two = features.to_dicts()
    for name in NAMES:
        compared = name.removeprefix("previous_")
        if compared.endswith("_diff"):
            here, before = (row[compared.replace("_diff", "_left")] for row in (two, one))
            assert rows[1][name] == (None if here is None or before is None else here - before)
    here, before = (row["mouse_dwell_left"] for row in (two, one))
    ratio = None if here is None or before is None else log(here + 500) - log(before + 500)
    assert rows[1]["previous_mouse_dwell_log_ratio"] == (ratio and pytest.approx(ratio))
    ratio = log(two["length_left"]) - log(one["length_left"])
    assert rows[1]["previous_length_log_ratio"] == pytest.approx(ratio)


def as_a_pair(here: Question, before: Question) -> Question:
    """The question in which `here` is read on the left, and after it `before` on the right."""
    later = (here["t"][-1] if here["t"] else 0) + 5_000
    pair = here | {"question_id": 3, "length_right": before["length_left"]}
    pair["t"] = [*here["t"], *(later + t for t in before["t"])]
    for modality in ("mouse", "gaze"):
        left, right = (f"{modality}_char_{side}" for side in ("left", "right"))
        pair[left] = [*here[left], *[-1] * len(before["t"])]
        pair[right] = [*[-1] * len(here["t"]), *before[left]]
    pair["mouse_x"] = [0.0] * len(pair["t"])
    return pair


@given(questions(modes=(False,), question_id=1), questions(modes=(False,), question_id=2))
def test_log_ratios_are_those_of_the_pair(before: Question, here: Question) -> None:
    for question in (before, here):
        # Nothing is on text in the last tick, whose duration in the pair would be another.
        for modality in ("mouse", "gaze"):
            question[f"{modality}_char_left"][-1:] = [-1] * bool(question["t"])
    alone = against_previous(extract_features(frame([before, here])), turns((1, "a", 1), (2, "a", 2))).row(
        1, named=True
    )
    pair = extract_features(frame([as_a_pair(here, before)])).row(0, named=True)
    for name in NAMES:
        if name.endswith("_log_ratio") and alone[name] is not None:
            assert alone[name] == pytest.approx(pair[name.removeprefix("previous_")], abs=1e-12)


def test_previous_is_the_turn_before_in_the_same_conversation() -> None:
    features = pl.DataFrame({"question_id": [1, 2, 3, 4, 5]}).with_columns(
        pl.lit(None, pl.Float64).alias(feature.name) for feature in CATALOG
    )
    features = features.with_columns(mouse_cells_left=pl.Series([3.0, 5.0, 11.0, 2.0, 20.0]), length_left=0.0)
    asked = turns((5, "b", 3), (2, "a", 2), (1, "a", 1), (4, "b", 1), (3, "a", 3))
    rows = against_previous(features, asked)
    assert rows["question_id"].to_list() == asked["question_id"].to_list()
    # Turn 2 of conversation b is missing: turn 3 has nothing before it.
    assert rows["previous_mouse_cells_diff"].to_list() == [None, 2, None, None, 6]
    ratios = [None, log(6 / 4), None, None, log(12 / 6)]
    assert rows["previous_mouse_cells_log_ratio"].to_list() == [r and pytest.approx(r) for r in ratios]
    assert rows["previous_length_log_ratio"].to_list() == [None, 0, None, None, 0]


def test_the_order_of_the_rows_changes_nothing(dataset: Path) -> None:
    features, questions = (load_config(dataset, config) for config in ("features", "pointwise"))
    rows = against_previous(features, questions)
    other = against_previous(features.sample(fraction=1, shuffle=True, seed=1), questions.reverse())
    assert other.reverse().equals(rows, null_equal=True)
    first = questions["turn"] == 1
    assert rows.filter(first).select(NAMES).null_count().row(0) == (first.sum(),) * len(NAMES)
    assert rows.filter(~first).select((pl.col(NAMES).count() > 0).all()).row(0) == (True,) * len(NAMES)


def test_every_column_is_described() -> None:
    features = extract_features(frame([]))
    assert against_previous(features, turns().cast(pl.Int64)).columns == ["question_id", *NAMES]
    assert len(set(NAMES)) == len(NAMES)
    by_name = {feature.name: feature for feature in CATALOG}
    for feature in PREVIOUS:
        of_two = by_name[feature.name.removeprefix("previous_")]
        assert (feature.unit, feature.low, feature.high, feature.swap) == (of_two.unit, of_two.low, of_two.high, ODD)
        assert "here" in feature.formula
        assert "before" in feature.formula
        assert "left" not in feature.formula
        assert "right" not in feature.formula
