"""Lag: a known one is found; a short answer has none. Gaps against plain Python, and datasets that lack something."""

import math

import numpy as np
import polars as pl
import pytest

from ifllm_hub.patterns.measures import measured
from ifllm_hub.patterns.mouse_gaze.coupling import _gaps, coupled, coupling
from ifllm_hub.patterns.mouse_gaze.lag import cross_correlations, matrix, peak, pooled_lag, together
from tests.patterns.walks import odd_ones, walks


def _together(lag_ticks: int, answers: int, ticks: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(1)
    frames = []
    for number in range(answers):
        path = np.convolve(rng.normal(0, 50, ticks + 60), np.ones(8) / 8, mode="same")
        gaze, mouse = path[30 : 30 + ticks], path[30 - lag_ticks : 30 - lag_ticks + ticks]
        frames.append(
            pl.DataFrame(
                {
                    "question_id": number,
                    "side": "left",
                    "answer": number,
                    "worker_id": f"w{number % 4}",
                    "conversation_id": f"c{number}",
                    "t": np.arange(ticks) * 80,
                    "mouse_x": mouse,
                    "gaze_x": gaze + rng.normal(0, 20, ticks) + 0.12 * (mouse - gaze),
                }
            )
        )
    return pl.concat(frames)


def test_a_known_lag_is_found() -> None:
    for lag in (-4, 0, 6):
        rows = cross_correlations(_together(lag, 12))
        one = pooled_lag(matrix(rows), rows["worker_id"].to_numpy())
        assert abs(one.mean - 80 * lag) < 40


def test_what_is_short_or_at_the_edge_has_no_lag() -> None:
    assert cross_correlations(_together(2, 2, ticks=50)).is_empty()
    assert np.isnan(peak(np.arange(41.0))[0])


def test_correlation_at_a_lag_is_that_of_the_shifted_paths() -> None:
    ticks = _together(3, 1).with_columns(t=pl.int_range(300) * 100)
    curve = matrix(cross_correlations(ticks))[0]
    # Without interpolation: every tick of the grid but the last, which has no tick after it.
    mouse, gaze = (ticks[name].to_numpy()[:-1] for name in ("mouse_x", "gaze_x"))
    mouse, gaze = mouse - mouse.mean(), gaze - gaze.mean()
    for lag in (-7, 0, 4):
        of_gaze = gaze[: len(gaze) - lag] if lag >= 0 else gaze[-lag:]
        of_mouse = mouse[lag:] if lag >= 0 else mouse[:lag]
        expected = (of_gaze @ of_mouse) / math.sqrt((of_gaze @ of_gaze) * (of_mouse @ of_mouse))
        assert curve[20 + lag] == pytest.approx(expected)


def test_gap_at_independent_times_is_the_mean_over_all_pairs_of_ticks() -> None:
    mouse, gaze, dt = [10, 40, 40, 90], [0, 70, 20, 90], [500, 1000, 2000, 1500]
    short = {"question_id": 1, "side": "right", "answer": 0, "dt": 1999, "mouse_char": 0, "gaze_char": 5}
    rows = [
        {"question_id": 2, "side": "left", "answer": 1, "dt": d, "mouse_char": m, "gaze_char": g}
        for d, m, g in zip(dt, mouse, gaze, strict=True)
    ]
    found = _gaps(pl.DataFrame([short, *rows]), "char", "gap_ratio")
    gap = sum(d * abs(m - g) for d, m, g in zip(dt, mouse, gaze, strict=True)) / sum(dt)
    chance = sum(
        one * two * abs(m - g) for one, m in zip(dt, mouse, strict=True) for two, g in zip(dt, gaze, strict=True)
    )
    assert found.select("question_id", "side", "measure").rows() == [(2, "left", "gap_ratio")]
    assert found["value"].to_list() == pytest.approx([gap / (chance / sum(dt) ** 2)])


def test_gap_to_other_takes_the_gaze_of_the_answer_next_in_length_at_the_same_share_of_the_time() -> None:
    readings = walks(workers=1, questions=2)
    ticks = together(readings)
    table = coupled(readings, ticks, cross_correlations(ticks)).filter(measure="gap_to_other")
    answers = readings.answers.sort("length", "question_id", "side").rows(named=True)
    for here, answer in enumerate(answers):
        other = answers[here + 1] if here + 1 < len(answers) else answers[here - 1]
        own, theirs = (
            ticks.filter(question_id=one["question_id"], side=one["side"]).rows(named=True) for one in (answer, other)
        )
        ends = [sum(tick["dt"] for tick in theirs[:k]) + tick["dt"] / 2 for k, tick in enumerate(theirs)]
        at, gap, chance = 0, 0.0, 0.0
        for tick in own:
            share = (at + tick["dt"] / 2) / sum(one["dt"] for one in own)
            at += tick["dt"]
            found = [k for k, end in enumerate(ends) if end / sum(one["dt"] for one in theirs) >= share - 1e-9]
            place = theirs[found[0] if found else -1]["gaze_char"] / other["length"] * answer["length"]
            gap += tick["dt"] * abs(tick["mouse_char"] - tick["gaze_char"])
            chance += tick["dt"] * abs(tick["mouse_char"] - place)
        value = table.filter(question_id=answer["question_id"], side=answer["side"])["value"].item()
        assert value == pytest.approx(gap / chance, rel=0.02)


def test_what_lacks_something_has_no_coupling_or_part_of_it() -> None:
    found = {name: coupling(readings, measured(readings)) for name, readings in odd_ones().items()}
    for name in ("no gaze", "no mouse", "never both", "nothing"):
        one = found[name]
        assert (one.curve, one.classes, one.workers, one.effects) == (None, [], [], [])
    for name in ("one worker", "one question"):
        assert found[name].curve is not None
        assert found[name].effects == []
    assert "same_answer" not in {one.measure for one in found["single answers"].classes}
    assert {one.measure for one in found["no ratings"].effects} > {"gap_ratio", "lag", "same_answer_excess"}
