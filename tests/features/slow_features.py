"""Every feature of a question in plain Python, from the formulas of the catalogue, and questions to try them on."""

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
}
MEASURES = (
    *("dwell", "dwell_per_char", "visits", "longest_visit", "first_seen", "last_seen", "depth", "coverage"),
    *("position_mean", "position_variance", "forward", "backward", "regressions"),
)
ZERO_IF_UNSEEN = set(MEASURES) - {"first_seen", "last_seen", "position_mean", "position_variance"}

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
    for modality in MODALITIES:
        features |= _of_modality(question, modality, steps, places[modality])
    return features | _of_both(question, steps, places)


def _places(question: Question, modality: str) -> list[tuple[str, int] | None]:
    """The side and char index of each tick, None off the text."""
    pairs = zip(question[f"{modality}_char_left"], question[f"{modality}_char_right"], strict=True)
    return [("left", a) if a >= 0 else ("right", b) if b >= 0 else None for a, b in pairs]


def _of_modality(question: Question, modality: str, steps: list[int], places: list) -> dict[str, float | None]:
    names = [f"{m}_{s}" for m in MEASURES for s in (*SIDES, "diff")]
    names += ["dwell_log_ratio", "first_side", "last_side", "switches", "on_text"]
    features: dict[str, float | None] = dict.fromkeys((f"{modality}_{name}" for name in names), None)
    sides = [place[0] for place in places if place]
    if not sides:
        return features
    two = question["length_right"] is not None
    for side in SIDES[: 1 + two]:
        for measure, value in _of_side(question, side, steps, places).items():
            features[f"{modality}_{measure}_{side}"] = value
    if two:
        for measure in MEASURES:
            a, b = (features[f"{modality}_{measure}_{side}"] for side in SIDES)
            features[f"{modality}_{measure}_diff"] = None if a is None or b is None else a - b
        dwells = [features[f"{modality}_dwell_{side}"] + 500 for side in SIDES]
        features[f"{modality}_dwell_log_ratio"] = log(dwells[0]) - log(dwells[1])
        features[f"{modality}_first_side"] = 1 if sides[0] == "left" else -1
        features[f"{modality}_last_side"] = 1 if sides[-1] == "left" else -1
        features[f"{modality}_switches"] = sum(x != y for x, y in pairwise(sides))
    if sum(steps):
        on_text = sum(step for step, place in zip(steps, places, strict=True) if place)
        features[f"{modality}_on_text"] = on_text / sum(steps)
    return features


def _of_side(question: Question, side: str, steps: list[int], places: list) -> dict[str, float | None]:
    runs = groupby(range(len(places)), key=lambda i: places[i] and places[i][0])
    visits = [list(ticks) for at, ticks in runs if at == side]
    if not visits:
        return {measure: 0 if measure in ZERO_IF_UNSEEN else None for measure in MEASURES}
    length = question[f"length_{side}"]
    ticks = [i for visit in visits for i in visit]
    chars = {i: places[i][1] for i in ticks}
    dwell = sum(steps[i] for i in ticks)
    moves = [chars[j] - chars[i] for visit in visits for i, j in pairwise(visit)]
    cells = {min(chars[i], length - 1) // 20 for i in ticks}
    mean = variance = None
    if dwell:
        mean = sum(steps[i] * chars[i] for i in ticks) / dwell
        variance = sum(steps[i] * (chars[i] - mean) ** 2 for i in ticks) / dwell
    return {
        "dwell": dwell,
        "dwell_per_char": dwell / length,
        "visits": len(visits),
        "longest_visit": max(sum(steps[i] for i in visit) for visit in visits),
        "first_seen": min(question["t"][i] for i in ticks),
        "last_seen": max(question["t"][i] for i in ticks),
        "depth": max(chars.values()) / length,
        "coverage": len(cells) / ceil(length / 20),
        "position_mean": None if mean is None else mean / length,
        "position_variance": None if variance is None else variance / length**2,
        "forward": sum(move for move in moves if move > 0),
        "backward": -sum(move for move in moves if move < 0),
        "regressions": sum(move < -20 for move in moves),
    }


def _of_both(question: Question, steps: list[int], places: dict[str, list]) -> dict[str, float | None]:
    ticks = [(dt, m, g) for dt, m, g in zip(steps, places["mouse"], places["gaze"], strict=True) if m and g]
    same = [(dt, m, g) for dt, m, g in ticks if m[0] == g[0]]
    time, together = (sum(dt for dt, *_ in part) for part in (ticks, same))
    two = question["length_right"] is not None
    gap = sum(dt * abs(g[1] - m[1]) / question[f"length_{m[0]}"] for dt, m, g in same)
    return {
        "gaze_mouse_same_side": together / time if two and time else None,
        "gaze_mouse_gap": gap / together if together else None,
    }


@st.composite
def questions(draw: st.DrawFn, modes: tuple[bool, ...] = (True, False), question_id: int = 1) -> Question:
    """Any reading of one question: each modality on the left, on the right or off the text, at most on one side."""
    two = draw(st.sampled_from(modes))
    lengths = [draw(st.integers(1, 90)) for _ in range(1 + two)]
    steps = draw(st.lists(st.sampled_from([0, 1, 80, 999, 1000, 1001, 60_000]), max_size=14))
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
    }


@st.composite
def question_lists(draw: st.DrawFn, max_size: int = 5) -> list[Question]:
    n = draw(st.integers(1, max_size))
    return [draw(questions(question_id=10 * i + 3)) for i in range(n)]
