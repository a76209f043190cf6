"""Mouse and gaze together: how far apart, on the same answer or not, and which is late, by length and by worker.

Gaze is not independent of the mouse: WebGazer takes cursor positions of the last second into its fit. And both are on
what is in view, some 300 characters of an answer, so that scrolling alone keeps their char indices close, the more so,
against the length, the longer the answer is. What scrolling cannot make is their distance *across* the screen.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.measures import BY_NAME, LEAST_MS
from ifllm_hub.patterns.mouse_gaze.lag import (
    LagCurve,
    cross_correlations,
    lag_curve,
    matrix,
    peak,
    pooled_lag,
    together,
)
from ifllm_hub.patterns.readings import Readings
from ifllm_hub.statistics import Jackknife, jackknife, jackknife_mean
from ifllm_hub.terms import SIDES

# A peak this high is needed for a lag of one answer, half of it for that of a worker.
LEAST_PEAK = 0.3
CLASSES = ("short", "medium", "long")
_FAMILY = "mouse and gaze"
_ANSWER = ["question_id", "side"]
_UNITS = {
    "gap": "char",
    "gap_ratio": "ratio",
    "gap_across_ratio": "ratio",
    "same_answer": "share",
    "same_answer_excess": "share",
    "lag": "ms",
}
_TITLES = {
    "gap_ratio": "distance / that at independent times",
    "gap_across_ratio": "distance across the screen / that at independent times",
    "same_answer_excess": "on the same answer, beyond chance",
    "lag": "lag of the mouse behind the recorded gaze",
}
# What makes an effect without being one of reading.
_CAVEATS = {
    "gap_ratio": "scrolling alone makes it",
    "gap_to_other": "scrolling alone makes it",
    "gap_across_ratio": "gaze is fitted to the mouse",
    "same_answer_excess": "gaze is fitted to the mouse",
    "lag": "the webcam's delay and smoothing, and the fit to the mouse",
}
# Their logarithm is what is averaged and what has a slope.
_LOG = ("gap", "gap_ratio", "gap_across_ratio", "gap_to_other")


@dataclass(frozen=True)
class ClassMean:
    """Of the answers of one length class: the mean (geometric for gaps) with its interval."""

    measure: str
    unit: str
    length_class: str
    shortest: int
    longest: int
    mean: float
    low: float
    high: float
    n: int
    workers: int


@dataclass(frozen=True)
class WorkerMean:
    """Of one worker: the mean as in `ClassMean` (for `lag` the peak of the worker's mean cross-correlation).

    Its interval leaves out one conversation at a time; NaN where there is one.
    """

    measure: str
    unit: str
    worker_id: str
    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Coupling:
    """How mouse and gaze go together.

    Attributes:
        curve: None where no answer has enough time in stretches.
        classes: by length; for display, the claim is the slope among `effects`.
        workers: every measure of every worker.
        effects: is it chance, and does it change with length. Slopes are within workers, per doubling of the length.
    """

    curve: LagCurve | None
    classes: list[ClassMean]
    workers: list[WorkerMean]
    effects: list[Effect]


def coupling(readings: Readings, table: pl.DataFrame) -> Coupling:
    """How mouse and gaze go together, of all answers with both.

    Args:
        readings: of a dataset.
        table: `measured(readings)`.
    """
    ticks = together(readings)
    correlations = cross_correlations(ticks)
    values = pl.concat([table.filter(modality="both"), coupled(readings, ticks, correlations)])
    effects = _against_chance(values)
    by_class, by_worker = [], []
    for measure, unit in _UNITS.items():
        rows = values.filter(pl.col("measure") == measure, pl.col("length") > 0)
        if measure in _LOG:
            rows = rows.filter(pl.col("value") > 0)
        if rows.height:
            # Slopes of the declared measures stand with those of all others (`variation.length`).
            effects += [] if measure in BY_NAME else _slope(rows, measure)
            by_class += _classes(rows, measure, unit)
            if measure != "lag":
                by_worker += _by_worker(rows, measure, unit)
    curve = None
    if correlations.height:
        curve = lag_curve(correlations, cross_correlations(ticks, shifted=True), cross_correlations(ticks, "char"))
        effects += _pooled_lag(correlations)
        by_worker += _lag_by_worker(correlations)
    return Coupling(curve, by_class, by_worker, effects)


def coupled(readings: Readings, ticks: pl.DataFrame, correlations: pl.DataFrame) -> pl.DataFrame:
    """Further measures of mouse and gaze together, a row each, in the format of `measured`.

    Args:
        readings: of a dataset.
        ticks: `together(readings)`.
        correlations: `cross_correlations(ticks)`.

    `gap_ratio`: `gap` / the gap that mouse and gaze would have if each were where it is as long as it is, but at
    independent times (exact, of their two distributions on that answer); 1 is chance.
    `gap_across_ratio`: the same of the distance across the screen, which scrolling does not touch.
    `gap_to_other`: `gap` / the gap of this answer's mouse and the gaze of the same worker on the answer next in length,
    at the same shares of the time: what is left of 1 is not explained by reading from top to bottom.
    `same_answer_excess`: `same_answer` less the share of time that the gaze is on this answer, whatever the mouse does.
    `lag` (ms) and `lag_peak` (correlation): see `cross_correlations`; no row where the peak is below `LEAST_PEAK` or at
    the edge.
    """
    parts = [
        _gaps(ticks, "char", "gap_ratio"),
        _gaps(ticks, "x", "gap_across_ratio"),
        _to_other(ticks, readings),
        _excess(readings),
        _lags(correlations),
    ]
    about = readings.questions.select(
        "question_id", "worker_id", "conversation_id", "task_id", "turn", "mode", "schema_version", "bullet_points"
    )
    lengths = readings.answers.select(*_ANSWER, "length", "rival_length")
    rows = pl.concat(parts).with_columns(modality=pl.lit("both"))
    rows = about.join(rows.join(lengths, on=_ANSWER), on="question_id")
    return rows.select(*about.columns, "side", "length", "rival_length", "modality", "measure", "value").sort(
        *_ANSWER, "measure"
    )


def _gaps(ticks: pl.DataFrame, what: str, measure: str) -> pl.DataFrame:
    """Gap / that at independent times, the integral of F (1 - G) + G (1 - F) of their distribution functions."""
    rows = _long_enough(ticks).drop_nulls([f"mouse_{what}", f"gaze_{what}"])
    answers = rows.select(_ANSWER).unique(maintain_order=True)
    answer = rows["answer"].rle_id().to_numpy().astype(np.int64)
    weight = rows["dt"].to_numpy() / np.bincount(answer, rows["dt"].to_numpy())[answer]
    places = [rows[f"{one}_{what}"].to_numpy().astype(float) for one in ("mouse", "gaze")]
    both, whose = np.concatenate(places), np.tile(answer, 2)
    # By answer, and within it by place.
    order = np.argsort(whose * (np.ptp(both) + 1.0) + both) if len(both) else np.arange(0)
    of_mouse = np.arange(len(both)) < len(answer)
    # Each answer's weights add up to 1, and so to its number up to where it begins.
    up_to = [
        np.clip(np.cumsum((np.tile(weight, 2) * one)[order]) - whose[order], 0, 1) for one in (of_mouse, ~of_mouse)
    ]
    width = np.diff(both[order], append=0.0) * (np.diff(whose[order], append=-1) == 0)
    apart = width * (up_to[0] * (1 - up_to[1]) + up_to[1] * (1 - up_to[0]))
    gaps = answers.with_columns(
        gap=pl.Series(np.bincount(answer, weight * np.abs(places[0] - places[1]), len(answers)), dtype=pl.Float64),
        expected=pl.Series(np.bincount(whose[order], apart, len(answers)), dtype=pl.Float64),
    )
    return _ratio(gaps, measure)


def _long_enough(ticks: pl.DataFrame) -> pl.DataFrame:
    """Those of answers with `LEAST_MS` of dwell."""
    return ticks.filter(pl.col("dt").sum().over("answer") >= LEAST_MS)


def _to_other(ticks: pl.DataFrame, readings: Readings) -> pl.DataFrame:
    """`gap_to_other`: the same worker's gaze on the answer next in length stands in for this one's."""
    lengths = readings.answers.select(*_ANSWER, "length").filter(pl.col("length") > 0)
    rows = _long_enough(ticks).join(lengths, on=_ANSWER, maintain_order="left")
    rows = rows.with_columns(number=pl.col("answer").rle_id().cast(pl.Int64)).with_row_index("row")
    starts = rows.group_by("number", maintain_order=True).agg(
        pl.first(*_ANSWER, "worker_id", "length"),
        first=pl.col("row").min().cast(pl.Int64),
        size=pl.len().cast(pl.Int64),
        dwell=pl.col("dt").sum(),
    )
    ordered = starts.sort("worker_id", "length", "number")
    other = pl.coalesce(pl.col("number").shift(-1), pl.col("number").shift(1)).over("worker_id")
    others = ordered.select("number", other=other).sort("number")["other"]
    number, dt = rows["number"].to_numpy(), rows["dt"].to_numpy().astype(float)
    first, size, dwell, length = (starts[name].to_numpy() for name in ("first", "size", "dwell", "length"))
    before = np.cumsum(dt) - dt
    moment = np.clip((before - before[first[number]] + dt / 2) / dwell[number], 0, 1 - 1e-9)
    has = others.is_not_null().to_numpy()[number]
    mine, theirs = number[has], others.fill_null(0).to_numpy()[number[has]]
    found = np.searchsorted(number + moment, theirs + moment[has])
    at = np.clip(found, first[theirs], first[theirs] + size[theirs] - 1)
    mouse, gaze = (rows[f"{one}_char"].to_numpy() for one in ("mouse", "gaze"))
    place = gaze[at] / length[theirs] * length[mine]
    gap, expected = (
        pl.Series(np.bincount(mine, dt[has] * np.abs(mouse[has] - one), len(starts)) / dwell, dtype=pl.Float64)
        for one in (gaze[has], place)
    )
    return _ratio(starts.with_columns(gap=gap, expected=expected), "gap_to_other")


def _ratio(gaps: pl.DataFrame, measure: str) -> pl.DataFrame:
    """`gap` on each answer / that `expected` by chance, where that is not 0."""
    kept = gaps.filter(pl.col("expected") > 1e-9)
    return kept.select(*_ANSWER, measure=pl.lit(measure), value=pl.col("gap") / pl.col("expected"))


def _excess(readings: Readings) -> pl.DataFrame:
    """`same_answer_excess`, where `same_answer` is defined."""
    dt, gaze, mouse = pl.col("dt"), pl.col("gaze_side"), pl.col("mouse_side")
    pairs = readings.answers.filter(pl.col("rival_length").is_not_null()).select(_ANSWER)
    sums = readings.joint.group_by("question_id").agg(
        dt.sum().alias("all"),
        *(dt.filter(mouse == side).sum().alias(f"mouse_{side}") for side in SIDES),
        *(dt.filter(gaze == side).sum().alias(f"gaze_{side}") for side in SIDES),
        *(dt.filter((gaze == side) & (mouse == side)).sum().alias(f"both_{side}") for side in SIDES),
    )
    rows = pl.concat(
        sums.filter(pl.col(f"mouse_{side}") >= LEAST_MS).select(
            "question_id",
            side=pl.lit(side),
            measure=pl.lit("same_answer_excess"),
            value=pl.col(f"both_{side}") / pl.col(f"mouse_{side}") - pl.col(f"gaze_{side}") / pl.col("all"),
        )
        for side in SIDES
    )
    return rows.join(pairs, on=_ANSWER, how="semi").sort(_ANSWER)


def _lags(correlations: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for question, side, curve in correlations.select(*_ANSWER, "correlation").iter_rows():
        lag, height = peak(np.array(curve))
        if height >= LEAST_PEAK:
            rows += [(question, side, "lag", lag), (question, side, "lag_peak", height)]
    schema = {"question_id": pl.Int64, "side": pl.String, "measure": pl.String, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _against_chance(values: pl.DataFrame) -> list[Effect]:
    """Is it as if mouse and gaze were independent?"""
    effects = []
    for measure, name in (
        ("gap_ratio", "distance / that at independent times"),
        ("gap_across_ratio", "distance across the screen / that at independent times"),
        ("gap_to_other", "distance / that to the gaze on another answer"),
        ("same_answer_excess", "on the same answer, beyond chance"),
    ):
        rows = values.filter(pl.col("measure") == measure)
        if measure in _LOG:
            rows = rows.filter(pl.col("value") > 0).with_columns(pl.col("value").log())
        if rows["worker_id"].n_unique() > 1:
            one = jackknife_mean(rows["value"].to_numpy(), rows["worker_id"].to_numpy())
            effects.append(_effect(name, measure, one, rows))
    return effects


def _effect(name: str, measure: str, one: Jackknife, rows: pl.DataFrame) -> Effect:
    """The measures in `_LOG` as a ratio, whose p value is of its being 1."""
    mean, low, high = _ends(one, measure)
    unit = "ratio" if measure in _LOG else _UNITS[measure]
    size = rows.height, rows["worker_id"].n_unique()
    caveat = _CAVEATS.get(measure, "")
    return Effect(_FAMILY, name, measure, "both", unit, mean, low, high, one.p, "jackknife", *size, caveat)


def _ends(one: Jackknife, measure: str) -> tuple[float, float, float]:
    ends = one.interval()
    three = one.mean, ends["low"], ends["high"]
    return tuple(float(np.exp(end)) for end in three) if measure in _LOG else three  # type: ignore[return-value]


def _slope(rows: pl.DataFrame, measure: str) -> list[Effect]:
    """What a doubling of the answer's length changes, within workers."""
    own = pl.col("value").log() if measure in _LOG else pl.col("value")
    x, y = pl.col("length").log(2), own
    rows = rows.with_columns((one - one.mean().over("worker_id")).alias(name) for name, one in (("x", x), ("y", y)))
    workers = rows["worker_id"].to_numpy()
    dx, dy = rows["x"].to_numpy(), rows["y"].to_numpy()
    codes = np.unique(workers, return_inverse=True)[1]
    xy, xx = np.bincount(codes, dx * dy), np.bincount(codes, dx * dx)
    if len(xx) < 2 or (xx > 0).sum() < 2:
        return []
    slope = xy.sum() / xx.sum()
    without = (xy.sum() - xy) / (xx.sum() - xx)
    one = jackknife(slope, without, dx * (dy - slope * dx), workers)
    return [_effect(f"{_TITLES[measure]}, per doubling of the length", measure, one, rows)]


def _classes(rows: pl.DataFrame, measure: str, unit: str) -> list[ClassMean]:
    """Thirds of the answers by length."""
    lengths = rows["length"].to_numpy()
    classes = np.searchsorted(np.quantile(lengths, (1 / 3, 2 / 3)), lengths)
    means = []
    for number, name in enumerate(CLASSES):
        part = rows.filter(pl.Series(classes == number))
        if part.height:
            values = part["value"].log() if measure in _LOG else part["value"]
            one = jackknife_mean(values.to_numpy(), part["worker_id"].to_numpy())
            span = int(lengths[classes == number].min()), int(lengths[classes == number].max())
            size = part.height, part["worker_id"].n_unique()
            means.append(ClassMean(measure, unit, name, *span, *_ends(one, measure), *size))
    return means


def _by_worker(rows: pl.DataFrame, measure: str, unit: str) -> list[WorkerMean]:
    means = []
    for (worker,), part in rows.sort("worker_id", *_ANSWER).group_by("worker_id", maintain_order=True):
        values = part["value"].log() if measure in _LOG else part["value"]
        one = jackknife_mean(values.to_numpy(), part["conversation_id"].to_numpy())
        means.append(WorkerMean(measure, unit, str(worker), *_ends(one, measure), part.height))
    return means


def _pooled_lag(correlations: pl.DataFrame) -> list[Effect]:
    workers = correlations["worker_id"].to_numpy()
    one = pooled_lag(matrix(correlations), workers)
    if len(one.moves) < 2 or not np.isfinite(one.mean):
        return []
    return [_effect(_TITLES["lag"], "lag", one, correlations)]


def _lag_by_worker(correlations: pl.DataFrame) -> list[WorkerMean]:
    means = []
    for (worker,), part in correlations.sort("worker_id", *_ANSWER).group_by("worker_id", maintain_order=True):
        rows = matrix(part)
        if peak(rows.mean(axis=0))[1] >= LEAST_PEAK / 2:
            one = pooled_lag(rows, part["conversation_id"].to_numpy())
            means.append(WorkerMean("lag", "ms", str(worker), *_ends(one, "lag"), part.height))
    return means
