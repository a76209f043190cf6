"""The paper's formulas, by hand on a few ticks; the corrected source; and each quirk of the reference, on and off."""

import math
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from eval.reproduction import lists as paper_lists
from eval.reproduction.features import (
    MODALITIES,
    MODALITY,
    SIDE,
    compare_features,
    derive_pairwise,
    derive_pointwise,
    measure_pairwise,
    measure_pointwise,
    paper_features,
)
from eval.reproduction.lists import PAPER_COMPARE, PAPER_GAZE, PAPER_MOUSE, PAPER_PAIRWISE, describe
from ifllm_hub.dataset.load import load_config

LENGTHS = {
    "question_id": [1],
    "conversation_id": ["w/1"],
    "length_left": [100],
    "length_right": [200],
    "length_query": [9],
}


def ticks(rows: list[tuple[int | None, str, str, float, bool, int]], conversation: str = "w/1") -> pl.DataFrame:
    """(question, modality, side, t, on_panel, char) a row; what is read is what is shown."""
    return pl.DataFrame(
        {
            "question_id": [row[0] for row in rows],
            "shown_id": [row[0] for row in rows],
            "conversation_id": conversation,
            "modality": [row[1] for row in rows],
            "side": [row[2] for row in rows],
            "t": [float(row[3]) for row in rows],
            "on_panel": [row[4] for row in rows],
            "char": [row[5] for row in rows],
            "face_ok": True,
        },
        schema_overrides={"question_id": pl.Int64, "shown_id": pl.Int64, "modality": MODALITY, "side": SIDE},
    )


# Left: text at 0, 100, 400 and 3,400 ms, on the panel but on no text at 500 ms, off it at 600 ms. Right: one tick on
# text at 700 ms. The last tick of all, at 4,000 ms, is off everything.
MOUSE = [
    (1, "mouse", "left", 0, True, 10),
    (1, "mouse", "left", 100, True, 20),
    (1, "mouse", "left", 400, True, 30),
    (1, "mouse", "left", 500, True, -1),
    (1, "mouse", "left", 600, False, -1),
    (1, "mouse", "left", 3_400, True, 60),
    (1, "mouse", "left", 4_000, False, -1),
    (1, "mouse", "right", 700, True, 150),
    (1, "mouse", "right", 800, False, -1),
]
# One tick of gaze, on the left text, and one on the right panel before it.
GAZE = [
    (1, "gaze", "left", 50, True, 5),
    (1, "gaze", "left", 150, False, -1),
    (1, "gaze", "right", 20, True, -1),
]


@pytest.fixture(scope="module")
def by_hand() -> dict[str, float | None]:
    base = measure_pairwise(ticks(MOUSE + GAZE), pl.DataFrame(LENGTHS), "question_id")
    return derive_pairwise(base).row(0, named=True)


def test_the_lists_are_the_papers() -> None:
    lists = (PAPER_PAIRWISE, PAPER_GAZE, PAPER_MOUSE)
    compare = (PAPER_COMPARE, paper_lists.PAPER_COMPARE_GAZE, paper_lists.PAPER_COMPARE_MOUSE)
    assert [len(names) for names in lists + compare] == [50, 27, 25, 50, 22, 28]
    for whole, gaze, mouse in (lists, compare):
        assert len(set(whole)) == 50
        assert set(gaze) | set(mouse) | {name for name in whole if name.startswith(("cross", "prev_cross"))} == set(
            whole
        )
        assert not [name for name in gaze if "mouse" in name] + [name for name in mouse if "gaze" in name]


def test_every_column_is_declared() -> None:
    for name in PAPER_PAIRWISE + PAPER_COMPARE:
        feature = describe(name)
        assert feature.name == name
        assert feature.unit
        assert feature.formula
    with pytest.raises(KeyError):
        describe("mouse_speed")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Pauses 100, 300 and 3,000 (cut to 1,000) ms between on-text ticks, over 3,400 ms.
        ("response_A_mouse_focused_engagement_ratio", 1_400 / 3_400),
        ("response_A_mouse_overall_attention_ratio", 4 / 7),
        ("response_B_mouse_overall_attention_ratio", 1 / 2),
        ("response_B_mouse_focused_engagement_ratio", None),
        ("response_A_mouse_normalized_avg_char_position", 0.30),
        ("response_A_mouse_normalized_char_position_variance", (0.2**2 + 0.1**2 + 0 + 0.3**2) / 3),
        # Twenty windows of 170 ms: two ticks in the first, one in the third, the last tick in none.
        ("response_A_mouse_window_000", 0.15),
        ("response_A_mouse_window_001", None),
        ("response_A_mouse_window_002", 0.30),
        ("response_A_mouse_window_019", None),
        ("response_B_mouse_window_000", None),
        ("mouse_total_entries_left", 7),
        ("mouse_total_entries_right", 2),
        ("mouse_onscreen_points_left", 5),
        ("gaze_onscreen_points_right", 1),
        ("mouse_max_idx_left", 60),
        ("mouse_max_idx_ratio_right", 0.75),
        ("gaze_max_idx_right", None),
        ("camera_green", 3),
        ("response_length_right", 200),
        ("user_query_length", 9),
        # Reviewing ends at the last on-text tick, 3,400 ms, which is not part of it. On the left panel 0, 100, 400 and
        # 500 ms; 4 of the 5 ticks before the end.
        ("mouse_left_reviewing_engaged_time_s", 0.5),
        ("mouse_left_reviewing_engaged_pct", 12.5),
        ("mouse_left_reviewing_active_ratio", 0.5 / 3.4),
        ("mouse_left_reviewing_onscreen_ratio", 0.8),
        ("mouse_left_reviewing_offscreen_ratio", 0.2),
        ("mouse_right_reviewing_engaged_time_s", 0.0),
        ("mouse_right_reviewing_onscreen_ratio", 0.5),
        ("mouse_comparison_reviewing_time_ratio", 100.0),  # 0.5 s over 1 ms is more
        ("mouse_comparison_reviewing_time_diff", 0.5),
        ("mouse_comparison_reviewing_activity_ratio", 100.0),
        # Of what was reached before the end: 30 on the left, 150 on the right.
        ("mouse_comparison_which_side_read_further", -1),
        # Gaze reviewed from 20 to 50 ms and saw nothing twice.
        ("gaze_left_reviewing_engaged_time_s", 0.0),
        ("gaze_left_reviewing_onscreen_ratio", None),
        ("gaze_right_reviewing_onscreen_ratio", 1.0),
        ("cross_modality_left_reviewing_duration_ratio_gaze_mouse", 0.0),
        ("cross_modality_right_reviewing_duration_ratio_gaze_mouse", 0.0),
    ],
)
def test_a_pair_by_hand(by_hand: dict[str, float | None], name: str, expected: float | None) -> None:
    assert by_hand[name] == (None if expected is None else pytest.approx(expected, rel=1e-12))


def test_the_order_of_ticks_does_not_matter(by_hand: dict[str, float | None]) -> None:
    rows = ticks(MOUSE + GAZE)
    for seed in range(5):
        base = measure_pairwise(rows.sample(fraction=1, shuffle=True, seed=seed), pl.DataFrame(LENGTHS), "question_id")
        assert derive_pairwise(base).row(0, named=True) == by_hand


def test_phases_may_span_a_conversation() -> None:
    """As in the reference: the tick of question 2 ends the reviewing of both, and they share every phase column."""
    rows = ticks([*MOUSE, (2, "mouse", "left", 9_000, True, 7), (2, "mouse", "left", 9_500, False, -1)])
    questions = pl.concat([pl.DataFrame(LENGTHS), pl.DataFrame(LENGTHS).with_columns(question_id=pl.lit(2, pl.Int64))])
    both = derive_pairwise(measure_pairwise(rows, questions, "conversation_id"))
    # 0.5 s as before, and 1 s of the pause from 500 to 3,400 ms, which now is before the end.
    assert both["mouse_left_reviewing_engaged_time_s"].to_list() == [1.5, 1.5]
    assert both["mouse_left_reviewing_engaged_pct"].to_list() == pytest.approx([100 * 1.5 / 9.5] * 2)
    alone = derive_pairwise(measure_pairwise(rows, questions, "question_id"))
    assert alone["mouse_left_reviewing_engaged_time_s"].to_list() == [0.5, 0.0]


def test_single_answers_by_hand() -> None:
    """Question 1 is read from 1,000 to 3,000 ms, question 2 from 5,000 to the end; nobody reads question 3."""
    rows = [
        (1, "mouse", "left", 0, False, -1),
        (1, "mouse", "left", 1_000, True, 4),
        (1, "mouse", "left", 2_000, True, -1),
        (1, "mouse", "left", 3_000, True, 8),
        (1, "mouse", "left", 4_000, False, -1),
        (2, "mouse", "left", 5_000, True, 3),
        (2, "mouse", "left", 6_000, False, -1),
        (2, "mouse", "left", 7_000, False, -1),
    ]
    questions = pl.DataFrame(
        LENGTHS | {"question_id": [1, 2, 3]} | {k: v * 3 for k, v in LENGTHS.items() if k != "question_id"}
    )
    table = derive_pointwise(measure_pointwise(ticks(rows), questions))
    expected = {
        "mouse_reviewing_duration_s": [2.0, 2.0, None],
        "mouse_composing_duration_s": [1.0, 2.0, None],
        "mouse_reviewing_pct": [200 / 3, 50.0, None],
        "mouse_reviewing_active_ratio": [1.0, 1 / 3, None],
        "mouse_reviewing_offscreen_ratio": [0.0, 2 / 3, None],
        # Composing of 1: the tick at 0. Of 2: the last tick on text of 1, and one off the panel.
        "mouse_composing_active_ratio": [0.0, 0.5, None],
        "mouse_composing_lookback_ratio": [0.0, 0.5, None],
        "mouse_lookback_time_s": [0.0, 1.0, None],
        "mouse_active_time_composing_s": [0.0, 1.0, None],
        "mouse_offscreen_time_reviewing_s": [0.0, 4 / 3, None],
        "mouse_max_char_position_reached": [8.0, 3.0, None],
        "mouse_reviewing_composing_duration_ratio": [2 / 1.001, 2 / 2.001, None],
        "mouse_reviewing_composing_activity_ratio": [100.0, (1 / 3) / 0.501, None],
        "mouse_composing_reviewing_activity_diff": [-1.0, 1 / 6, None],
        "mouse_offscreen_increase": [1.0, 0.5 - 2 / 3, None],
        "gaze_reviewing_duration_s": [None, None, None],
        "cross_modality_reviewing_duration_ratio_gaze_mouse": [None, None, None],
    }
    for name, values in expected.items():
        assert table[name].to_list() == [None if v is None else pytest.approx(v, rel=1e-12) for v in values], name


def trajectory(question: int, mode: str = "pairwise", **lists: list[int]) -> dict[str, object]:
    length = len(lists["t"])
    row: dict[str, object] = {"question_id": question, "length_left": 100, "length_right": 200, "length_query": 9}
    if mode == "pointwise":
        row["length_right"] = None
    carets = {f"{m}_char_{side}": [-1] * length for m in MODALITIES for side in ("left", "right")}
    return row | carets | {"face_ok": [True] * length} | lists


def table(rows: list[dict[str, object]]) -> pl.DataFrame:
    lists = {name: pl.List(pl.Int16) for name in rows[0] if "_char_" in name} | {"t": pl.List(pl.Int32)}
    return pl.DataFrame(rows, schema_overrides=lists | {"length_right": pl.Int32, "face_ok": pl.List(pl.Boolean)})


def test_an_answer_not_read_is_what_its_column_declares() -> None:
    """Only the left answer is read, by both: each column of the right one has its declared value, null or not."""
    left = [10, 20, 30, -1, 40, -1]
    row = trajectory(1, t=[0, 80, 160, 240, 320, 400], mouse_char_left=left, gaze_char_left=left)
    found = paper_features(table([row])).row(0, named=True)
    of_right = [name for name in PAPER_PAIRWISE if "right" in name.split("_") or name.startswith("response_B")]
    other = ("response_length", "total_entries", "cross_modality")
    checked = [name for name in of_right if not any(part in name for part in other)]
    assert len(checked) == 17
    assert {name: found[name] for name in checked} == {name: describe(name).unread for name in checked}
    assert found["mouse_total_entries_right"] == found["mouse_total_entries_left"] == 6
    assert found["mouse_comparison_which_side_read_further"] == 1
    assert found["camera_green"] == 12  # both gaze files have a line a tick


def test_a_modality_that_saw_no_text_is_null_and_not_zero() -> None:
    row = trajectory(1, t=[0, 80, 160], mouse_char_left=[1, 2, 3], face_ok=[None, None, None])
    found = paper_features(table([row])).row(0, named=True)
    of_gaze = [name for name in PAPER_PAIRWISE if "gaze" in name and "total_entries" not in name]
    assert len(of_gaze) == 23
    assert {found[name] for name in of_gaze} == {None}
    assert found["gaze_total_entries_left"] == 3
    assert found["camera_green"] is None
    assert found["mouse_max_idx_left"] == 3


def test_questions_without_ticks_keep_their_lengths() -> None:
    rows = [trajectory(1, t=[]), trajectory(2, t=[0, 80], mouse_char_right=[5, 6])]
    found = paper_features(table(rows))
    assert found["question_id"].to_list() == [1, 2]
    known = [name for name in PAPER_PAIRWISE if found[name][0] is not None]
    assert sorted(known) == ["response_length_left", "response_length_right", "user_query_length"]


def test_the_question_before_is_of_the_same_conversation() -> None:
    rows = [
        trajectory(q, "pointwise", t=[0, 80, 160], mouse_char_left=[q, q + 1, q + 2], gaze_char_left=[1, 2, 3])
        for q in (3, 1, 2)
    ]
    placed = pl.DataFrame(
        {"question_id": [1, 2, 3], "conversation_id": ["a", "b", "a"], "asked_at": [0, 0, 60_000]}
    ).with_columns(pl.col("asked_at").cast(pl.Datetime("ms", "UTC")))
    found = compare_features(table(rows), placed).sort("question_id")
    assert tuple(found.columns) == ("question_id", *PAPER_COMPARE)
    assert found["mouse_max_char_position_reached"].to_list() == [3, 4, 5]
    assert found["prev_user_query_length"].to_list() == [None, None, 9]
    assert found["prev_response_A_mouse_window_000"].to_list() == [None, None, 0.01]
    # From the last on-text tick of question 1, at 160 ms, to the answer of question 3.
    assert found["mouse_composing_lookback_ratio"].to_list() == [None, None, 1.0]


def test_corrected_features_of_a_dataset(dataset: Path) -> None:
    trajectories = load_config(dataset, "trajectories")
    whole = paper_features(trajectories)
    assert tuple(whole.columns) == ("question_id", *PAPER_PAIRWISE)
    assert set(whole.dtypes[1:]) == {pl.Float64}
    assert whole.height == trajectories.filter(mode="pairwise").height > 20
    assert whole.drop_nulls().height > whole.height / 4
    values = whole.drop("question_id").to_numpy()
    assert not [v for v in values[values == values] if math.isinf(v)]

    shuffled = paper_features(trajectories.sample(fraction=1, shuffle=True, seed=1))
    assert_frame_equal(shuffled.sort("question_id"), whole.sort("question_id"), check_exact=True)
    chunks = [paper_features(trajectories[i : i + 7]) for i in range(0, trajectories.height, 7)]
    assert_frame_equal(pl.concat(chunks), whole, check_exact=True)

    pointwise = load_config(dataset, "pointwise")
    compared = compare_features(trajectories, pointwise)
    again = compare_features(trajectories.reverse(), pointwise.reverse())
    assert_frame_equal(again, compared, check_exact=True)
    assert compared.height == trajectories.filter(mode="pointwise").height
