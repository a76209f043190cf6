"""Three readings in full: which questions are shown, and the dwell on each stretch of an answer."""

import itertools
from dataclasses import dataclass
from typing import Any

import polars as pl

from ifllm_hub.features.measures import CELL
from ifllm_hub.features.ticks import all_ticks, on_text
from ifllm_hub.pages.plot_style import Picture
from ifllm_hub.report.figures.trajectory import trajectory_picture
from ifllm_hub.report.heat import LEVELS_MS, heat_level
from ifllm_hub.report.inputs import Run
from ifllm_hub.terms import MODALITIES, SIDES

READINGS = 3
# A longer answer is cut here, code points; whole cells.
SHOWN = 3_000

_LENGTHS = (300, SHOWN)
_MIN_DWELL_MS = 2_000
# The ratio of dwell on the preferred answer to dwell on the other above which it was clearly read more.
_CLEARLY = 1.25


@dataclass(frozen=True)
class Cell:
    """A stretch of an answer: `text` from code point `start`, dwelt on for `ms`, of heat `level` (0 is none)."""

    text: str
    start: int
    ms: int
    level: int


@dataclass(frozen=True)
class Strip:
    """One answer under one modality.

    Attributes:
        ms: dwell on the whole answer.
        cut: code points left out at the end.
        cut_ms: dwell on what was left out.
    """

    modality: str
    cells: list[Cell]
    ms: int
    cut: int
    cut_ms: int


@dataclass(frozen=True)
class Answer:
    """One side of a reading; `rating` is 1-5 or None."""

    side: str
    length: int
    rating: int | None
    preferred: bool
    strips: list[Strip]
    trajectory: Picture


@dataclass(frozen=True)
class Reading:
    """A question as its worker read it."""

    question_id: int
    query: str
    role: str
    heading: str
    answers: list[Answer]


def readings(run: Run) -> list[Reading]:
    """Up to `READINGS` questions, the same for the same run.

    Raises:
        IfllmError: the trajectories are missing or damaged.
    """
    chosen = choose(run.pairwise, run.features)
    trajectories = run.trajectories(chosen["question_id"].to_list())
    lengths = trajectories.select("question_id", "length_left", "length_right")
    ticks = all_ticks(trajectories)
    located = {modality: on_text(ticks, lengths, modality) for modality in MODALITIES}
    return [_reading(question, located) for question in chosen.iter_rows(named=True)]


def choose(pairwise: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    """The questions to show, each from a different worker if there are enough workers.

    Of the rated pairs whose answers were both read with the mouse: the one with the best coverage (share of cells
    visited, mouse plus gaze, on the answer that was covered less) where the preferred answer was read clearly longer,
    the one where it was read clearly less, and the one whose mouse dwell is nearest to the median of all such pairs.
    If there is none, the next best covered pair takes its place.

    Args:
        pairwise, features: the configs of that name.

    Returns:
        Columns of `pairwise` and `features`, and `role`; at most `READINGS` rows.
    """
    pool = _pool(pairwise, features)
    by_coverage = pool.sort("typical", "covered", "question_id", descending=[True, True, False])
    by_median = pool.sort("typical", "from_median", "question_id", descending=[True, False, False])
    wishes = [
        ("The preferred answer was read longer", by_coverage.filter(pl.col("advantage") >= _CLEARLY)),
        ("The preferred answer was read less", by_coverage.filter(pl.col("advantage") <= 1 / _CLEARLY)),
        ("A typical amount of reading", by_median.filter(pl.col("has_gaze"))),
        *[("A lot of recorded reading", by_coverage)] * READINGS,
    ]
    taken = pool.clear().with_columns(role=pl.lit(""))
    for role, ranked in wishes:
        free = ranked.join(taken, on="question_id", how="anti", maintain_order="left")
        others = free.join(taken, on="worker_id", how="anti", maintain_order="left")
        best = (others if others.height else free).head(1).with_columns(role=pl.lit(role))
        taken = pl.concat([taken, best]).head(READINGS)
    return taken


def _pool(pairwise: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
    usable = pl.col("has_mouse") & pl.col("preference").is_not_null() & ~pl.col("ai_error") & ~pl.col("excluded_worker")
    left, right = pl.col("mouse_dwell_left"), pl.col("mouse_dwell_right")
    ratio = (left + 1) / (right + 1)
    covered = [
        pl.min_horizontal(f"{modality}_coverage_left", f"{modality}_coverage_right").fill_null(0)
        for modality in MODALITIES
    ]
    fits = [pl.col(f"length_{side}").is_between(*_LENGTHS) for side in SIDES]
    return (
        pairwise.join(features.drop("worker_id", "mode", "split"), on="question_id")
        .filter(usable)
        .with_columns(
            typical=pl.all_horizontal(pl.min_horizontal(left, right) >= _MIN_DWELL_MS, *fits).fill_null(False),
            covered=pl.sum_horizontal(covered),
            advantage=pl.when(pl.col("preference") == "left").then(ratio).otherwise(1 / ratio),
            from_median=(left + right - (left + right).median()).abs(),
        )
    )


def dwell_by_cell(reading: pl.DataFrame, length: int) -> list[int]:
    """Dwell on each `CELL` code points of an answer, ms.

    Args:
        reading: rows of `on_text` for one question, side and modality.
        length: of the answer, code points.
    """
    cells = -(-length // CELL)
    dwell = [0] * cells
    last = max(cells - 1, 0)
    for char, ms in reading.select("char", "dt").iter_rows():
        if cells:
            dwell[min(max(char, 0) // CELL, last)] += ms
    return dwell


def strip(text: str, dwell: list[int], modality: str) -> Strip:
    """An answer's text in cells of `CELL` code points, with the dwell of each (ms), cut after `SHOWN` code points."""
    shown = range(0, min(len(text), SHOWN), CELL)
    cells = [
        Cell(text[start : start + CELL], start, ms, heat_level(ms)) for start, ms in zip(shown, dwell, strict=False)
    ]
    cut = max(len(text) - SHOWN, 0)
    return Strip(modality, cells, sum(dwell), cut, sum(dwell[len(cells) :]))


def legend() -> list[tuple[int, str]]:
    """Heat level and its range of dwell, ms."""
    bounds = [f"{low:,}–{high - 1:,}" for low, high in itertools.pairwise(LEVELS_MS)]
    return list(enumerate(["0", *bounds, f"{LEVELS_MS[-1]:,} or more"]))


def _reading(question: dict[str, Any], located: dict[str, pl.DataFrame]) -> Reading:
    mine = {
        modality: rows.filter(pl.col("question_id") == question["question_id"]) for modality, rows in located.items()
    }
    seen = {modality: rows for modality, rows in mine.items() if rows.height}
    seconds = max(float(rows.select(pl.max("t")).item()) for rows in seen.values()) / 1_000
    mouse = seen["mouse"]
    dwell: dict[str, float] = {
        side: mouse.filter(pl.col("side") == side)["dt"].to_numpy().sum() / 1_000 for side in SIDES
    }
    preference = question["preference"]
    answers = [_answer(question, side, seen, seconds) for side in SIDES]
    return Reading(
        question_id=question["question_id"],
        query=question["query"],
        role=question["role"],
        heading=_heading(dwell, preference),
        answers=answers,
    )


def _heading(dwell: dict[str, float], preference: str) -> str:
    other = SIDES[preference == SIDES[0]]
    return (
        f"{preference.capitalize()} answer preferred: mouse {dwell[preference]:.1f} s on it, "
        f"{dwell[other]:.1f} s on the {other} one"
    )


def _answer(question: dict[str, Any], side: str, seen: dict[str, pl.DataFrame], seconds: float) -> Answer:
    text = question[f"response_{side}"]
    here = {modality: rows.filter(pl.col("side") == side) for modality, rows in seen.items()}
    return Answer(
        side=side,
        length=len(text),
        rating=question[f"rating_{side}"],
        preferred=question["preference"] == side,
        strips=[strip(text, dwell_by_cell(rows, len(text)), modality) for modality, rows in here.items()],
        trajectory=trajectory_picture(here, side, len(text), seconds),
    )
