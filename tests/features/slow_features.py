"""Every feature of a question in plain Python, from the formulas of the catalog, and questions to try them on."""

from fractions import Fraction
from itertools import groupby, pairwise
from math import ceil, log
from typing import Any

import polars as pl
from hypothesis import strategies as st

MODALITIES, SIDES = ("mouse", "gaze"), ("left", "right")
CARETS = [f"{modality}_char_{side}" for modality in MODALITIES for side in SIDES]
SCHEMA = {
    "question_id": pl.Int64,
    "length_left": pl.Int32,
    "length_right": pl.Int32,
    "length_query": pl.Int32,
    "t": pl.List(pl.Int32),
    "mouse_x": pl.List(pl.Float32),
    **dict.fromkeys(CARETS, pl.List(pl.Int16)),
    "viewport_height": pl.Int32,
    "viewport_t": pl.List(pl.Int32),
    **{f"viewport_{name}_{side}": pl.List(pl.Int16) for name in ("first", "last") for side in SIDES},
    **{f"viewport_{name}_{side}": pl.List(pl.Float32) for name in ("share", "top", "bottom") for side in SIDES},
}
MEASURES = (
    *("dwell", "dwell_per_char", "visits", "longest_visit", "return_dwell", "first_seen", "last_seen"),
    *("pauses", "pause_dwell", "depth", "progress_quarter_1", "progress_quarter_2", "progress_quarter_3"),
    *("coverage", "cells", "cells_300ms", "position_mean", "position_variance", "head_share", "tail_share"),
    *("forward", "backward", "regressions", "lookback_share", "speed"),
)
NULL_IF_UNSEEN = {
    *("first_seen", "last_seen", "position_mean", "position_variance"),
    *("head_share", "tail_share", "lookback_share", "speed"),
}
ON_SCREEN = ("dwell", "exposure", "central_exposure", "exposure_per_char", "coverage")
FLOORS = {"dwell": 500, "dwell_per_char": 1, "longest_visit": 500, "cells": 1, "forward": 20}

Question = dict[str, Any]


def frame(questions: list[Question]) -> pl.DataFrame:
    return pl.DataFrame(questions, schema=SCHEMA)


def slow_features(question: Question) -> dict[str, float | None]:
    left, right = question["length_left"], question["length_right"]
    a, b = max(left, 1), None if right is None else max(right, 1)
    features: dict[str, float | None] = {
        "length_left": left,
        "length_right": right,
        "length_query": question["length_query"],
        "length_log_ratio": None if b is None else log(a) - log(b),
        "length_log_sum": None if b is None else log(a + b),
    }
    times = question["t"]
    steps = [min(max(after - at, 0), 1000) for at, after in pairwise(times)] + [0] * bool(times)
    places = {modality: _places(question, modality) for modality in MODALITIES}
    with_mouse = [i for i, place in enumerate(places["mouse"]) if place]
    if with_mouse:
        places["gaze"] = [place if i <= with_mouse[-1] else None for i, place in enumerate(places["gaze"])]
    for modality in MODALITIES:
        features |= _of_modality(question, modality, steps, places[modality])
    return features | _of_both(question, steps, places) | _of_screen(question) | _of_ratios(features)


def _places(question: Question, modality: str) -> list[tuple[str, int] | None]:
    """The side and char index of each tick, None off the text."""
    pairs = zip(question[f"{modality}_char_left"], question[f"{modality}_char_right"], strict=True)
    return [("left", a) if a >= 0 else ("right", b) if b >= 0 else None for a, b in pairs]


def _of_modality(question: Question, modality: str, steps: list[int], places: list) -> dict[str, float | None]:
    names = [f"{m}_{s}" for m in MEASURES for s in (*SIDES, "diff")]
    names += [f"{name}_log_ratio" for name in FLOORS]
    names += ["balance", *(f"balance_quarter_{quarter}" for quarter in (1, 2, 3, 4))]
    names += ["first_side", "last_side", "first_stay_share", "switches", "dwell_total", "on_text"]
    features: dict[str, float | None] = dict.fromkeys((f"{modality}_{name}" for name in names), None)
    read = [i for i, place in enumerate(places) if place]
    if not read:
        return features
    total = sum(steps[i] for i in read)
    quarters = {i: _quarter(sum(steps[j] for j in read if j < i), total) for i in read}
    stays = [list(ticks) for _, ticks in groupby(read, key=lambda i: places[i][0])]
    two = question["length_right"] is not None
    for side in SIDES[: 1 + two]:
        for measure, value in _of_side(question, side, steps, places, quarters).items():
            features[f"{modality}_{measure}_{side}"] = value
    if two:
        for side in SIDES:
            returns = [stay for stay in stays[2:] if places[stay[0]][0] == side]
            features[f"{modality}_return_dwell_{side}"] = sum(steps[i] for stay in returns for i in stay)
        for measure in MEASURES:
            a, b = (features[f"{modality}_{measure}_{side}"] for side in SIDES)
            features[f"{modality}_{measure}_diff"] = None if a is None or b is None else a - b
        for measure, floor in FLOORS.items():
            a, b = (features[f"{modality}_{measure}_{side}"] + floor for side in SIDES)
            features[f"{modality}_{measure}_log_ratio"] = log(a) - log(b)
        features[f"{modality}_balance"] = _balance(read, steps, places)
        for quarter in (1, 2, 3, 4):
            part = [i for i in read if quarters[i] == quarter]
            features[f"{modality}_balance_quarter_{quarter}"] = _balance(part, steps, places)
        features[f"{modality}_first_side"] = 1 if places[read[0]][0] == "left" else -1
        features[f"{modality}_last_side"] = 1 if places[read[-1]][0] == "left" else -1
        features[f"{modality}_first_stay_share"] = sum(steps[i] for i in stays[0]) / total if total else None
        features[f"{modality}_switches"] = len(stays) - 1
    features[f"{modality}_dwell_total"] = total
    if sum(steps):
        features[f"{modality}_on_text"] = total / sum(steps)
    return features


def _quarter(before: int, total: int) -> int:
    """The quarter (1-4) of the reading time that a tick begins in; without any, all of it is the first."""
    passed = Fraction(before, total) if total else Fraction(0)
    return 1 + sum(passed >= Fraction(end, 4) for end in (1, 2, 3))


def _balance(ticks: list[int], steps: list[int], places: list) -> float | None:
    left, right = (sum(steps[i] for i in ticks if places[i][0] == side) for side in SIDES)
    return (left - right) / (left + right) if left + right else None


def _of_side(
    question: Question, side: str, steps: list[int], places: list, quarters: dict[int, int]
) -> dict[str, float | None]:
    runs = groupby(range(len(places)), key=lambda i: places[i] and places[i][0])
    visits = [list(ticks) for at, ticks in runs if at == side]
    if not visits:
        return {m: None if m in NULL_IF_UNSEEN else 0 for m in MEASURES if m != "return_dwell"}
    length = question[f"length_{side}"]
    ticks = [i for visit in visits for i in visit]
    chars = {i: places[i][1] for i in ticks}
    dwell = sum(steps[i] for i in ticks)
    moves = [chars[j] - chars[i] for visit in visits for i, j in pairwise(visit)]
    forward = sum(move for move in moves if move > 0)
    cells = {i: min(chars[i], length - 1) // 20 for i in ticks}
    on_cell = {cell: sum(steps[i] for i in ticks if cells[i] == cell) for cell in cells.values()}
    stops = [list(run) for visit in visits for _, run in groupby(visit, key=cells.__getitem__)]
    pauses = [spent for stop in stops if (spent := sum(steps[i] for i in stop)) >= 500]
    by = {quarter: max([0, *(chars[i] for i in ticks if quarters[i] <= quarter)]) for quarter in (1, 2, 3)}
    back = [i for n, i in enumerate(ticks) if max(chars[j] for j in ticks[: n + 1]) - chars[i] > 20]
    head = [i for i in ticks if Fraction(chars[i], length) < Fraction(1, 3)]
    tail = [i for i in ticks if Fraction(chars[i], length) >= Fraction(2, 3)]
    of_dwell: dict[str, float | None] = dict.fromkeys(NULL_IF_UNSEEN - {"first_seen", "last_seen"})
    if dwell:
        mean = sum(steps[i] * chars[i] for i in ticks) / dwell
        of_dwell = {
            "position_mean": mean / length,
            "position_variance": sum(steps[i] * (chars[i] - mean) ** 2 for i in ticks) / dwell / length**2,
            "head_share": sum(steps[i] for i in head) / dwell,
            "tail_share": sum(steps[i] for i in tail) / dwell,
            "lookback_share": sum(steps[i] for i in back) / dwell,
            "speed": forward / (dwell / 1000),
        }
    return of_dwell | {
        "dwell": dwell,
        "dwell_per_char": dwell / length,
        "visits": len(visits),
        "longest_visit": max(sum(steps[i] for i in visit) for visit in visits),
        "first_seen": min(question["t"][i] for i in ticks),
        "last_seen": max(question["t"][i] for i in ticks),
        "pauses": len(pauses),
        "pause_dwell": sum(pauses),
        "depth": max(chars.values()) / length,
        **{f"progress_quarter_{quarter}": reached / length for quarter, reached in by.items()},
        "coverage": len(on_cell) / ceil(length / 20),
        "cells": len(on_cell),
        "cells_300ms": sum(spent >= 300 for spent in on_cell.values()),
        "forward": forward,
        "backward": -sum(move for move in moves if move < 0),
        "regressions": sum(move < -20 for move in moves),
    }


def _of_both(question: Question, steps: list[int], places: dict[str, list]) -> dict[str, float | None]:
    ticks = [(dt, m, g) for dt, m, g in zip(steps, places["mouse"], places["gaze"], strict=True) if m and g]
    same = [(dt, m, g) for dt, m, g in ticks if m[0] == g[0]]
    time, together = (sum(dt for dt, *_ in part) for part in (ticks, same))
    left, right = (sum(dt for dt, m, _ in same if m[0] == side) for side in SIDES)
    two = question["length_right"] is not None
    gap = sum(dt * abs(g[1] - m[1]) / question[f"length_{m[0]}"] for dt, m, g in same)
    return {
        "gaze_mouse_dwell_left": left if ticks else None,
        "gaze_mouse_dwell_right": right if ticks and two else None,
        "gaze_mouse_dwell_diff": left - right if ticks and two else None,
        "gaze_mouse_dwell_log_ratio": log(left + 500) - log(right + 500) if ticks and two else None,
        "gaze_mouse_same_side": together / time if two and time else None,
        "gaze_mouse_gap": gap / together if together else None,
    }


def _of_screen(question: Question) -> dict[str, float | None]:
    names = [f"{m}_{s}" for m in ON_SCREEN for s in (*SIDES, "diff")] + [f"{m}_log_ratio" for m in ON_SCREEN[:4]]
    features: dict[str, float | None] = dict.fromkeys((f"viewport_{name}" for name in names), None)
    times, height = question.get("viewport_t") or [], question.get("viewport_height")
    steps = [min(max(after - at, 0), 2000) for at, after in pairwise(times)] + [0] * bool(times)
    shown = {side: [_shown(question, side, i) for i in range(len(times))] for side in SIDES}
    if not any(chars for side in SIDES for chars in shown[side]):
        return features
    two = question["length_right"] is not None
    for side, other in (SIDES, SIDES[::-1])[: 1 + two]:
        both = list(zip(steps, shown[side], shown[other], range(len(times)), strict=True))
        length = question[f"length_{side}"]
        parts = [dt * 2**24 * len(mine) // (len(mine) + len(theirs)) for dt, mine, theirs, _ in both if mine]
        central = [
            dt * 2**24 * weight // (weight + (len(theirs) * _middle(question, other, i) if theirs else 0))
            for dt, mine, theirs, i in both
            if mine and height and (weight := len(mine) * _middle(question, side, i))
        ]
        features[f"viewport_dwell_{side}"] = sum(dt for dt, mine, _, _ in both if mine)
        features[f"viewport_exposure_{side}"] = sum(parts) / 2**24
        features[f"viewport_central_exposure_{side}"] = sum(central) / 2**24
        features[f"viewport_exposure_per_char_{side}"] = sum(dt * len(mine) for dt, mine, _, _ in both) / length
        features[f"viewport_coverage_{side}"] = len({char for _, mine, _, _ in both for char in mine}) / length
    if two:
        for measure in ON_SCREEN:
            a, b = (features[f"viewport_{measure}_{side}"] for side in SIDES)
            features[f"viewport_{measure}_diff"] = a - b
        for measure in ON_SCREEN[:4]:
            floor = 1 if measure == "exposure_per_char" else 500
            a, b = (features[f"viewport_{measure}_{side}"] + floor for side in SIDES)
            features[f"viewport_{measure}_log_ratio"] = log(a) - log(b)
    return features


def _shown(question: Question, side: str, i: int) -> range:
    first, last = (question[f"viewport_{name}_{side}"][i] for name in ("first", "last"))
    return range(first, last + 1) if first >= 0 else range(0)


def _middle(question: Question, side: str, i: int) -> int:
    """How much a character counts, in thousandths: the mean over the visible part, by trapezoids."""
    height = question["viewport_height"]
    top, bottom = (min(max(question[f"viewport_{name}_{side}"][i], 0), height) for name in ("top", "bottom"))

    def at(y: float) -> float:
        return 1 - abs(2 * y / height - 1)

    if bottom - top < 1:
        return max(1, round(1000 * at(top)))
    inner = [top, *([height / 2] if top < height / 2 < bottom else []), bottom]
    area = sum((b - a) * (at(a) + at(b)) / 2 for a, b in pairwise(inner))
    return max(1, round(1000 * area / (bottom - top)))


def _of_ratios(features: dict[str, float | None]) -> dict[str, float | None]:
    gaze, mouse = (features[f"{modality}_dwell_log_ratio"] for modality in ("gaze", "mouse"))
    if gaze is None or mouse is None:
        return dict.fromkeys(("gaze_minus_mouse_log_ratio", "gaze_mouse_agreement"))
    same = None if gaze == 0 or mouse == 0 else 1 if (gaze > 0) == (mouse > 0) else -1
    return {"gaze_minus_mouse_log_ratio": gaze - mouse, "gaze_mouse_agreement": same}


@st.composite
def questions(
    draw: st.DrawFn,
    modes: tuple[bool, ...] = (True, False),
    question_id: int = 1,
    steps_ms: tuple[int, ...] = (0, 1, 80, 300, 500, 999, 1000, 1001, 60_000),
) -> Question:
    """Any reading of one question: each modality on the left, on the right or off the text, at most on one side."""
    two = draw(st.sampled_from(modes))
    lengths = [draw(st.integers(1, 90)) for _ in range(1 + two)]
    steps = draw(st.lists(st.sampled_from(steps_ms), max_size=14))
    times = [sum(steps[: i + 1]) for i in range(len(steps))]
    # Long stays on one side are likelier than a new place on each tick.
    place = st.integers(0, len(lengths)).flatmap(
        lambda side: st.tuples(st.just(side), st.integers(0, lengths[side])) if side < len(lengths) else st.none()
    )
    carets: dict[str, list[int]] = {}
    for modality in MODALITIES:
        places = draw(st.lists(place, min_size=len(times), max_size=len(times)))
        for number, side in enumerate(SIDES):
            carets[f"{modality}_char_{side}"] = [p[1] if p and p[0] == number else -1 for p in places]
    return {
        "question_id": question_id,
        "length_left": lengths[0],
        "length_right": lengths[1] if two else None,
        "length_query": draw(st.integers(0, 50)),
        "t": times,
        "mouse_x": [float(i) for i in range(len(times))],
        **carets,
        **draw(views(lengths, steps_ms)),
    }


@st.composite
def views(draw: st.DrawFn, lengths: list[int], steps_ms: tuple[int, ...]) -> Question:
    """What was on the screen: any part of each answer, or nothing of it."""
    steps = draw(st.lists(st.sampled_from(steps_ms), max_size=6))
    height = draw(st.sampled_from((None, 1, 640, 4_000)))
    lists: Question = {"viewport_height": height, "viewport_t": [sum(steps[: i + 1]) for i in range(len(steps))]}
    for number, side in enumerate(SIDES):
        parts = []
        for _ in steps:
            there = number < len(lengths) and draw(st.booleans())
            first, last = sorted(draw(st.tuples(*[st.integers(0, lengths[number] - 1)] * 2))) if there else (-1, -1)
            top, bottom = sorted(draw(st.tuples(*[st.integers(-10, 700)] * 2))) if there else (None, None)
            parts.append((first, last, 0.5 if there else 0.0, top, bottom))
        for place, name in enumerate(("first", "last", "share", "top", "bottom")):
            lists[f"viewport_{name}_{side}"] = [part[place] for part in parts]
    return lists


@st.composite
def question_lists(draw: st.DrawFn, max_size: int = 5) -> list[Question]:
    n = draw(st.integers(1, max_size))
    return [draw(questions(question_id=10 * i + 3)) for i in range(n)]
