"""The lag of the mouse behind the gaze, by cross-correlation of where they are across the screen.

Two traps. The boxes scroll: one turn of the wheel moves the text under mouse and gaze at the same moment, so their char
indices jump together and correlate best at a lag of 0, whatever the true lag is. On simulated readings whose mouse is
240 or 800 ms late, every form of cross-correlation of the char indices (levels, detrended, high-pass, differences over
0.1 to 1 s) finds 0 to 25 ms. Scrolling moves nothing *across* the screen, and there the same forms find 210 to 235 and
740 to 795 ms; all are alike, so the plainest is taken: levels, less the mean of each stretch. What is missing is the
simulated pull of the gaze to the mouse.

And gaze is not independent of the mouse: WebGazer takes cursor positions of the last second into its fit, and smooths,
and an image of the camera is older than a mouse event. All three make the recorded gaze late, that is, the lag smaller
than that of the hand behind the eye, or negative. A lag near 0 is partly an artifact.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ifllm_hub.patterns.readings import Readings
from ifllm_hub.statistics import Jackknife, jackknife, jackknife_mean
from ifllm_hub.terms import SIDES

# Step of the grid and largest lag, ms; a longer break between ticks ends a stretch, ms.
STEP_MS, FURTHEST_MS, BREAK_MS = 100, 2_000, 500
# An answer needs this much time in stretches, ms.
LEAST_STRETCH_MS = 10_000
_STEPS = FURTHEST_MS // STEP_MS
LAGS = tuple(lag * STEP_MS for lag in range(-_STEPS, _STEPS + 1))
_ANSWER = ["question_id", "side"]


@dataclass(frozen=True)
class LagCurve:
    """The cross-correlation of gaze and mouse across the screen, averaged over answers.

    Attributes:
        lags: ms; positive: the mouse is where the gaze was before.
        correlation, low, high: mean over answers with a 95 % band, clustered by worker.
        chance: the same with the mouse half a reading later, which keeps both paths but not their timing.
        text: the same of the char indices: its peak at 0 is made by scrolling and says nothing.
        n, workers: answers and workers.
    """

    lags: list[int]
    correlation: list[float]
    low: list[float]
    high: list[float]
    chance: list[float]
    text: list[float]
    n: int
    workers: int


def together(readings: Readings) -> pl.DataFrame:
    """The joint ticks with mouse and gaze on the same answer, `side`, by question and side, with whose they are.

    `answer` (Int64) is the number of the answer, from 0.
    """
    whose = readings.questions.select("question_id", "worker_id", "conversation_id")
    rows = readings.joint.filter(pl.col("mouse_side") == pl.col("gaze_side")).rename({"mouse_side": "side"})
    question = pl.col("question_id").rank("dense").cast(pl.Int64)
    rows = rows.with_columns(answer=2 * question + (pl.col("side") == SIDES[1]))
    rows = rows.sort("answer", maintain_order=True).with_columns(pl.col("answer").rle_id().cast(pl.Int64))
    return rows.join(whose, on="question_id", maintain_order="left")


def cross_correlations(together: pl.DataFrame, what: str = "x", shifted: bool = False) -> pl.DataFrame:
    """Of each answer, the correlation of gaze and mouse at lags from -2 to 2 s, both on that answer.

    Ticks without a break make a stretch, which is interpolated to a grid of `STEP_MS`, less its own mean. The sums of
    products go over all stretches of the answer.

    Args:
        together: from `together`.
        what: "x" (CSS px across the viewport) or "char", which scrolling makes useless for a lag (see the module).
        shifted: with the mouse half of the answer's time later, for chance.

    Returns:
        `question_id`, `side`, `worker_id`, `conversation_id` and `correlation` (list of 41 Float64), by `question_id`,
        `side`, of answers with `LEAST_STRETCH_MS` in stretches and any movement of both.
    """
    ticks = together.drop_nulls([f"mouse_{what}", f"gaze_{what}"])
    begins = pl.col("answer").rle_id().diff().fill_null(1) != 0
    answers = ticks.filter(begins).select(*_ANSWER, "worker_id", "conversation_id")
    none = answers.clear().with_columns(correlation=pl.lit([], pl.List(pl.Float64)))
    if ticks.height < 2:
        return none
    answer, stretch, mouse, gaze = _gridded(ticks, what)
    n = len(answers)
    if shifted:
        mouse = _half_later(mouse, answer)
    starts = np.flatnonzero(np.diff(answer, prepend=-1))
    # Zeros in the end, so that every answer begins before the last lag.
    end = (0, _STEPS)
    of = np.pad(answer if shifted else stretch, end, constant_values=-1)
    mouse, gaze = np.pad(mouse, end), np.pad(gaze, end)
    sums = np.zeros((3, n, 2 * _STEPS + 1))
    for lag in range(_STEPS + 1):
        early, late = slice(None, len(of) - lag), slice(lag, None)
        both = of[early] == of[late]
        for column, of_gaze, of_mouse in ((_STEPS + lag, early, late), (_STEPS - lag, late, early)):
            there, then = gaze[of_gaze], mouse[of_mouse]
            seen, moved = there * both, then * both
            for row, product in enumerate((seen * moved, seen * there, moved * then)):
                sums[row, answer[starts], column] = np.add.reduceat(product, starts)
    size = np.sqrt(sums[1] * sums[2])
    usable = (np.bincount(answer, minlength=n) * STEP_MS >= LEAST_STRETCH_MS) & (size > 0).all(axis=1)
    correlation = sums[0, usable] / size[usable]
    if not usable.any():
        return none
    return answers.filter(pl.Series(usable)).with_columns(
        correlation=pl.Series(correlation.tolist(), dtype=pl.List(pl.Float64))
    )


def peak(correlation: np.ndarray) -> tuple[float, float]:
    """Lag (ms) and height of the highest point, by a parabola through its neighbors; NaN at the edge of the range."""
    top = int(np.argmax(correlation))
    if top in (0, len(correlation) - 1):
        return np.nan, np.nan
    before, here, after = (float(one) for one in correlation[top - 1 : top + 2])
    bend = before - 2 * here + after
    offset = (before - after) / 2 / bend if bend < 0 else 0.0
    return (top - _STEPS + offset) * STEP_MS, here - (before - after) * offset / 4


def lag_curve(correlations: pl.DataFrame, chance: pl.DataFrame, text: pl.DataFrame) -> LagCurve:
    """Of three results of `cross_correlations`: across the screen, the same shifted, and of the char indices."""
    rows, workers = matrix(correlations), correlations["worker_id"].to_numpy()
    ends = [jackknife_mean(column, workers).interval() for column in rows.T]
    return LagCurve(
        list(LAGS),
        rows.mean(axis=0).tolist(),
        [one["low"] for one in ends],
        [one["high"] for one in ends],
        matrix(chance).mean(axis=0).tolist(),
        matrix(text).mean(axis=0).tolist(),
        len(rows),
        len(np.unique(workers)),
    )


def matrix(correlations: pl.DataFrame) -> np.ndarray:
    """(answers, lags)."""
    return np.array(correlations["correlation"].to_list(), dtype=float).reshape(-1, 2 * _STEPS + 1)


def pooled_lag(rows: np.ndarray, clusters: np.ndarray) -> Jackknife:
    """The peak (ms) of the mean cross-correlation, which varies far less than peaks of single answers do.

    Args:
        rows: (answers, 41), see `cross_correlations`.
        clusters: (answers,) a worker or conversation each; left out one at a time.
    """
    mean = rows.mean(axis=0)
    lag = peak(mean)[0]
    codes = np.unique(clusters, return_inverse=True)[1]
    totals = np.array([np.bincount(codes, column) for column in rows.T]).T
    left = len(rows) - np.bincount(codes)
    rest = [peak((rows.sum(axis=0) - total) / n)[0] if n else np.nan for total, n in zip(totals, left, strict=True)]
    # How much each answer's curve rises where the mean curve is at its top, to first order.
    top = int(np.clip(np.argmax(mean), 1, len(mean) - 2))
    return jackknife(lag, np.array(rest), rows[:, top + 1] - rows[:, top - 1], codes)


def _gridded(ticks: pl.DataFrame, what: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Number of the answer and of the stretch, mouse and gaze less the stretch's mean, at each point of the grid."""
    t = ticks["t"].to_numpy().astype(float)
    answer = ticks["answer"].rle_id().to_numpy().astype(np.int64)
    step = np.diff(t, prepend=t[0])
    begins = (np.diff(answer, prepend=-1) != 0) | (step > BREAK_MS) | (step < 0)
    stretch = np.cumsum(begins) - 1
    # On one clock, with a point of the grid between stretches.
    clock = np.cumsum(np.where(begins, 2 * STEP_MS, step))
    grid = np.arange(clock[0], clock[-1], STEP_MS)
    before = np.searchsorted(clock, grid, side="right") - 1
    within = stretch[before] == stretch[np.minimum(before + 1, len(t) - 1)]
    grid, at = grid[within], before[within]
    centered = []
    for modality in ("mouse", "gaze"):
        place = np.interp(grid, clock, ticks[f"{modality}_{what}"].to_numpy().astype(float))
        sizes = np.maximum(np.bincount(stretch[at], minlength=int(stretch[-1]) + 1), 1)
        centered.append(place - (np.bincount(stretch[at], place, len(sizes)) / sizes)[stretch[at]])
    return answer[at], stretch[at], centered[0], centered[1]


def _half_later(values: np.ndarray, answer: np.ndarray) -> np.ndarray:
    """Turned round by half of each answer's points."""
    starts = np.flatnonzero(np.diff(answer, prepend=-1))
    sizes = np.diff(starts, append=len(answer))
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    return values[start + (np.arange(len(answer)) - start + size // 2) % size]
