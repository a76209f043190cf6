"""How reading goes with the layout: one answer or two, left or right, the answer read first, the study's three pages.

To keep the comparisons few, each is made for the measures in `COMPARED` alone, fixed before the first was made.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from ifllm_hub.patterns.effects import Effect
from ifllm_hub.patterns.measures import MEASURES
from ifllm_hub.patterns.outcomes import Outcome, codes, effect_of, outcomes, slope_within
from ifllm_hub.statistics import jackknife_mean, jackknife_sums
from ifllm_hub.terms import SIDES

COMPARED = (
    "depth",
    "skipped",
    "dwell_per_char",
    "head_share",
    "lookback_share",
    "regression_rate",
    "path_slope",
    "forward_share",
    "gap",
)
_FORMATS = ("v1", "v3")
_BASE = "v2"
_FAMILY = "layout"


@dataclass(frozen=True)
class Layouts:
    """Comparisons of layouts, each by the measures in `COMPARED` that can be compared so.

    Attributes:
        workers_of_both: workers who read single answers as well as pairs; only they tell of the difference.
        modes: two answers side by side less one answer, within worker; what is measured of two answers is averaged.
            Lines are half as long there, so that the same distance in px is half as many characters.
        sides: left answer less right answer, within question.
        order: the answer read first less the other, within question.
        formats: page v1 less v2, and v3 less v2, between workers: hardly anyone saw two pages, and they were used in
            other weeks, with other workers, so that this is no effect of the page alone. Within mode, a worker's mean
            on a page counts once.
        effects: all of them.
    """

    workers_of_both: int
    modes: list[Effect]
    sides: list[Effect]
    order: list[Effect]
    formats: list[Effect]
    effects: list[Effect]


def layouts(table: pl.DataFrame) -> Layouts:
    """Reading in one layout against another.

    Args:
        table: of `patterns.measures.measured`.
    """
    # In a pair, an answer may not have been looked at, and has 0 here; a single one that was not has no row.
    not_seen = pl.col("measure").is_in([one.name for one in MEASURES if one.unseen is not None]) & (
        pl.col("value") == 0
    )
    compared = outcomes(table.filter(pl.col("measure").is_in(COMPARED) & ~not_seen))
    first = table.filter(measure="left_first").select("question_id", "modality", left_first="value")
    comparisons: tuple[Callable[[Outcome], Effect | None], ...] = (
        _mode,
        _side,
        lambda outcome: _read_first(outcome, first),
    )
    modes, sides, order = ([effect for outcome in compared if (effect := compare(outcome))] for compare in comparisons)
    formats = [effect for page in _FORMATS for outcome in compared if (effect := _format(outcome, page))]
    both = table.group_by("worker_id").agg(pl.col("mode").n_unique()).filter(pl.col("mode") == 2).height
    return Layouts(both, modes, sides, order, formats, modes + sides + order + formats)


def _mode(outcome: Outcome) -> Effect | None:
    keys = ["question_id", "worker_id", "mode"]
    rows = outcome.rows.group_by(keys, maintain_order=True).agg(pl.col("y").mean())
    workers, pair = codes(rows, "worker_id"), (rows["mode"] == "pairwise").cast(pl.Float64).to_numpy()
    found = slope_within(pair, rows["y"].to_numpy(), workers, workers)
    what = "two answers side by side less one"
    if found is None:
        return None
    effect = effect_of(_FAMILY, what, outcome.variable, found.slope, found.n, found.workers)
    return replace(effect, caveat="lines are half as long") if outcome.measure.name == "gap" else effect


def _within_question(outcome: Outcome) -> pl.DataFrame:
    """Questions in which both answers have a value, and the left one less the right one."""
    rows = outcome.rows.filter(pl.col("rival_length").is_not_null())
    left, right = (rows.filter(side=side) for side in SIDES)
    both = left.join(right.select("question_id", other="y"), on="question_id", maintain_order="left")
    return both.with_columns(difference=pl.col("y") - pl.col("other"))


def _mean(outcome: Outcome, what: str, rows: pl.DataFrame) -> Effect | None:
    workers = codes(rows, "worker_id")
    if workers.max(initial=0) < 1:
        return None
    found = jackknife_mean(rows["difference"].to_numpy(), workers)
    return effect_of(_FAMILY, what, outcome.variable, found, len(rows), int(workers.max()) + 1)


def _side(outcome: Outcome) -> Effect | None:
    return _mean(outcome, "left less right", _within_question(outcome))


def _read_first(outcome: Outcome, first: pl.DataFrame) -> Effect | None:
    # Of mouse and gaze together, none of the two answers is the first.
    by = first.filter(modality=outcome.variable.modality)
    rows = _within_question(outcome).join(by, on="question_id", maintain_order="left")
    sign = 2 * pl.col("left_first") - 1
    return _mean(outcome, "read first less read second", rows.with_columns(pl.col("difference") * sign))


def _format(outcome: Outcome, page: str) -> Effect | None:
    rows = outcome.rows.filter(pl.col("schema_version").is_in([page, _BASE]))
    keys = ["worker_id", "mode", "schema_version"]
    cells = rows.group_by(keys).agg(pl.col("y").mean(), pl.len()).sort(keys)
    # Modes that were recorded on one page only say nothing.
    cells = cells.filter(pl.col("schema_version").n_unique().over("mode") == 2)
    if cells.is_empty():
        return None
    here = (cells["schema_version"] == page).to_numpy()
    modes, workers, y = codes(cells, "mode"), codes(cells, "worker_id"), cells["y"].to_numpy()
    y = y - y.mean()  # sums without a worker lose no digits
    member = [here & (modes == one) for one in np.unique(modes)] + [~here & (modes == one) for one in np.unique(modes)]
    if min(len(np.unique(workers[here])), len(np.unique(workers[~here]))) < 2:
        return None
    parts = np.column_stack([*member, *(one * y for one in member)]).astype(float)
    found = jackknife_sums(_difference, parts, workers)
    people = int(workers.max()) + 1
    return effect_of(_FAMILY, f"page {page} less {_BASE}", outcome.variable, found, int(cells["len"].sum()), people)


def _difference(sums: np.ndarray) -> np.ndarray:
    """(..., 4 modes) sizes here and there and sums here and there -> (...) mean difference within mode."""
    n, m, y, z = np.split(sums, 4, axis=-1)
    weight = n * m / (n + m)
    both = (n > 0.5) & (m > 0.5)
    return np.asarray(np.where(both, weight * (y / n - z / m), 0.0).sum(-1) / np.where(both, weight, 0.0).sum(-1))
