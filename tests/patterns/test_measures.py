"""The measures of a reading against plain Python over ticks written by hand, and what must not change them."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from ifllm_hub.dataset.load import load_config
from ifllm_hub.patterns.measures import BY_NAME, MEASURES, measured
from ifllm_hub.patterns.readings import Readings, load_readings, readings_of

TEXT = "One two three four. " * 10  # 200 code points, 40 words
KEYS = ["question_id", "side", "modality", "measure"]


def question(question_id: int = 1, **changed: Any) -> dict[str, Any]:
    asked = {
        "question_id": question_id,
        "worker_id": "w1",
        "conversation_id": "w1/7",
        "task_id": 7,
        "turn": 1,
        "mode": "pairwise",
        "bullet_points": False,
        "preference": "left",
        "rating_left": 5,
        "rating_right": 3,
        "response_left": TEXT,
        "response_right": TEXT[:100],
    }
    return asked | changed


def trajectory(
    t: list[int], mouse: list[tuple[str, int] | None], gaze: list[tuple[str, int] | None], **changed: Any
) -> dict[str, Any]:
    row: dict[str, Any] = {
        "question_id": 1,
        "schema_version": "v2",
        "viewport_width": 1536,
        "viewport_height": 730,
        "length_left": 200,
        "length_right": 100,
        "length_query": 9,
        "t": t,
    }
    for modality, ticks in (("mouse", mouse), ("gaze", gaze)):
        for side in ("left", "right"):
            row[f"{modality}_char_{side}"] = [one[1] if one and one[0] == side else -1 for one in ticks]
        row[f"{modality}_x"] = [0.0] * len(t)
    return row | changed


def read(rows: list[dict[str, Any]], asked: list[dict[str, Any]] | None = None) -> Readings:
    return readings_of(pl.DataFrame(asked or [question()], infer_schema_length=None), pl.DataFrame(rows))


def values(table: pl.DataFrame, side: str | None = "left", modality: str = "mouse") -> dict[str, float]:
    rows = table.filter(pl.col("side").eq_missing(pl.lit(side)) & (pl.col("modality") == modality))
    return dict(rows.select("measure", "value").iter_rows())


# Six seconds on the left answer with a jump and a look back, a look at the right one, back to the left, off the text.
TICKS = [("left", 0), ("left", 30), ("left", 90), ("left", 60), ("right", 10), ("right", 50), ("left", 150), None]
TIMES = [1000, 1900, 2800, 3700, 4600, 5500, 6400, 7300]


def test_one_reading_by_hand() -> None:
    table = measured(read([trajectory(TIMES, TICKS, [None] * 8)]))
    left, right, pair = values(table), values(table, "right"), values(table, None)
    # 0, 30, 90, 60, 150 for 900 ms each
    assert left["dwell"] == 4500
    assert left["dwell_per_char"] == 4500 / 200
    assert left["depth"] == 150 / 200
    assert left["reach_time"] == 6400 - 1000
    assert left["coverage"] == 5 / 10  # cells 0, 1, 4, 3, 7
    assert left["skipped"] == 1 - 5 / 8
    assert left["words_per_minute"] == pytest.approx(40 * 0.5 / (4.5 / 60))
    assert left["head_share"] == pytest.approx(3 / 5)  # 0, 30, 60 are below 200 / 3
    assert left["tail_share"] == pytest.approx(1 / 5)
    assert left["lookback_share"] == pytest.approx(1 / 5)
    assert left["regression_rate"] == pytest.approx(1 / (4.5 / 60))
    assert left["pause_share"] == 1.0
    assert left["visits"] == 2
    assert left["forward_share"] == pytest.approx(90 / 120)
    moments, places = [0.1, 0.3, 0.5, 0.7, 0.9], [0, 0.15, 0.45, 0.3, 0.75]
    mean_place = sum(places) / 5
    slope = sum((m - 0.5) * (p - mean_place) for m, p in zip(moments, places, strict=True)) / sum(
        (m - 0.5) ** 2 for m in moments
    )
    residual = math.sqrt(
        sum((p - mean_place - slope * (m - 0.5)) ** 2 for m, p in zip(moments, places, strict=True)) / 5
    )
    assert left["path_slope"] == pytest.approx(slope)
    assert left["path_residual"] == pytest.approx(residual)
    assert left["dwell_entropy"] == pytest.approx(math.log2(5))  # tenths 0, 1, 4, 3, 7
    assert left["transition_entropy"] == 0  # every tenth was left once
    assert "dwell_entropy" not in right  # 1.8 s are too few
    assert right["dwell"] == 1800
    assert pair["left_first"] == 1
    assert pair["switches"] == 2
    assert pair["switch_rate"] == pytest.approx(2 / (6.3 / 60))
    assert pair["alternation"] == pytest.approx(1 - (3600 + 1800) / 6300)
    assert pair["first_stay_share"] == pytest.approx(3600 / 6300)
    assert pair["left_time_share"] == pytest.approx(4500 / 6300)
    assert pair["left_excess"] == pytest.approx(4500 / 6300 - 200 / 300)


def test_mouse_and_gaze_together_by_hand() -> None:
    gaze = [("left", 10), ("left", 10), ("right", 90), ("left", 100), ("right", 10), ("right", 20), None, None]
    table = measured(read([trajectory(TIMES, TICKS, gaze)]))
    left = values(table, "left", "both")
    assert left["gap"] == pytest.approx((10 + 20 + 40) / 3)
    assert left["same_answer"] == pytest.approx(3 / 4)
    assert values(table, "right", "both") == {}  # 1.8 s are too few


def test_an_answer_that_was_not_looked_at() -> None:
    ticks: list[tuple[str, int] | None] = [("left", 0)] * 8
    table = measured(read([trajectory(TIMES, ticks, [None] * 8)]))
    right = values(table, "right")
    assert right["coverage"] == right["depth"] == 0
    assert not {"dwell", "visits", "head_share", "path_slope", "skipped", "reach_time"} & right.keys()
    assert table.filter(modality="gaze").is_empty()
    assert values(table, None)["left_time_share"] == 1


def test_transition_entropy_against_counts() -> None:
    parts = [0, 1, 0, 2, 0, 1, 3, 0, 1, 2, 2, 0]
    ticks: list[tuple[str, int] | None] = [("left", 20 * part + 3) for part in parts]
    table = measured(read([trajectory(list(range(0, 12_000, 1_000)), ticks, [None] * 12)]))
    moves = [(a, b) for a, b in pairwise(parts) if a != b]
    entropy = 0.0
    for start in {a for a, _ in moves}:
        to = [b for a, b in moves if a == start]
        shares = [to.count(b) / len(to) for b in set(to)]
        entropy -= len(to) / len(moves) * sum(p * math.log2(p) for p in shares)
    assert values(table)["transition_entropy"] == pytest.approx(entropy)


def test_a_steady_reader_has_slope_one_and_moves_forward() -> None:
    t = list(range(0, 100 * 200, 100))
    ticks: list[tuple[str, int] | None] = [("left", char) for char in range(200)]
    left = values(measured(read([trajectory(t, ticks, [None] * 200)])))
    assert left["path_slope"] == pytest.approx(1, abs=0.01)
    assert left["path_residual"] == pytest.approx(0, abs=0.01)
    assert left["forward_share"] == left["coverage"] == 1
    assert left["skipped"] == left["lookback_share"] == left["regression_rate"] == left["transition_entropy"] == 0


def test_every_value_is_in_its_range_and_defined(dataset: Path) -> None:
    table = measured(load_readings(dataset))
    assert table["value"].is_finite().all()
    assert set(table["measure"]) == set(BY_NAME)
    for measure in MEASURES:
        found = table.filter(measure=measure.name)["value"]
        assert measure.low is None or found.min() >= measure.low - 1e-9, measure.name  # type: ignore[operator]
        assert measure.high is None or found.max() <= measure.high + 1e-9, measure.name  # type: ignore[operator]
    assert not table.select(KEYS).is_duplicated().any()


def test_order_of_rows_and_other_questions_change_nothing(dataset: Path) -> None:
    trajectories, pairwise_rows = load_config(dataset, "trajectories"), load_config(dataset, "pairwise")
    columns = set(question()) - {"mode"}
    asked = pairwise_rows.select(*columns).with_columns(mode=pl.lit("pairwise"))
    table = measured(readings_of(asked, trajectories))
    shuffled = measured(readings_of(asked.reverse(), trajectories.sample(fraction=1, shuffle=True, seed=1)))
    assert_frame_equal(table, shuffled, check_exact=True)
    few = asked.head(5)
    alone = measured(readings_of(few, trajectories))
    assert_frame_equal(table.join(few, on="question_id", how="semi", maintain_order="left"), alone, check_exact=True)


def test_swapping_the_answers_swaps_the_measures() -> None:
    gaze: list[tuple[str, int] | None] = [("left", 10)] * 5 + [("right", 20)] * 3

    def other(ticks: list[tuple[str, int] | None]) -> list[tuple[str, int] | None]:
        return [one and ("right" if one[0] == "left" else "left", one[1]) for one in ticks]

    table = measured(read([trajectory(TIMES, TICKS, gaze)]))
    swapped_question = question(response_left=TEXT[:100], response_right=TEXT)
    row = trajectory(TIMES, other(TICKS), other(gaze), length_left=100, length_right=200)
    swapped = measured(read([row], [swapped_question]))
    for modality in ("mouse", "gaze", "both"):
        assert values(swapped, "right", modality) == values(table, "left", modality)
        assert values(swapped, "left", modality) == values(table, "right", modality)
    before, after = values(table, None), values(swapped, None)
    assert {name: after[name] for name in ("switches", "alternation", "first_stay_share")} == pytest.approx(
        {name: before[name] for name in ("switches", "alternation", "first_stay_share")}
    )
    assert after["left_first"] == 1 - before["left_first"]
    assert after["left_time_share"] == pytest.approx(1 - before["left_time_share"])
    assert after["left_excess"] == pytest.approx(-before["left_excess"])


def test_nothing_off_the_text_counts() -> None:
    clean = measured(read([trajectory(TIMES, TICKS, [None] * 8)]))
    longer = trajectory([*TIMES, 60_000, 60_900], [*TICKS, None, None], [None] * 10)
    assert_frame_equal(clean, measured(read([longer])))


def test_first_screen_needs_the_studys_page() -> None:
    long = "word " * 400
    ticks: list[tuple[str, int] | None] = [("left", 10), ("left", 1900), ("left", 1900), ("left", 1900)]
    t = [0, 1000, 2000, 3000]
    asked = [question(response_left=long)]
    # 438 px of box are six lines of 70 px, 678 px of it hold 61 characters, thus twelve words.
    known = read([trajectory(t, ticks, [None] * 4, length_left=2000)], asked)
    assert known.answers.filter(side="left")["first_screen"].item() == 6 * 60
    assert values(measured(known))["first_screen_excess"] == pytest.approx(1 / 3 - 360 / 2000)
    collected = read([trajectory(t, ticks, [None] * 4, length_left=2000, schema_version="c1")], asked)
    assert collected.answers["first_screen"].null_count() == 2
    assert "first_screen_excess" not in values(measured(collected))


def test_excluded_workers_and_error_messages_are_left_out(dataset: Path) -> None:
    counted = load_readings(dataset).questions["question_id"].to_list()
    asked = [load_config(dataset, mode) for mode in ("pairwise", "pointwise")]
    out = [rows.filter(pl.col("excluded_worker") | pl.col("ai_error"))["question_id"].to_list() for rows in asked]
    assert sum(map(len, out)) > 0
    assert not {*out[0], *out[1]} & set(counted)
