"""What people's ratings say: means, differences, tests and intervals that respect who rated what.

Several raters see one item and one rater sees many, so ratings are not independent. Tests are on items, each the mean
over its raters. Intervals are 95 %, by jackknife over items, and again over raters.
"""

from typing import Any

import numpy as np
import polars as pl
from scipy.stats import rankdata, ttest_1samp

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.human.agreement import between_raters, with_judges
from ifllm_hub.evaluation.human.questions import COMPARISON, SCALES
from ifllm_hub.statistics import Interval, holm, mean_interval

# What is asked about each answer; of errors, fewer are better.
DIMENSIONS = ("claim_supported", *(scale.name for scale in SCALES))


def score_ratings(ratings: pl.DataFrame, judgments: pl.DataFrame | None = None) -> dict[str, Any]:
    """All numbers of the report.

    Args:
        ratings: RATINGS, of one task or several.
        judgments: JUDGMENTS of the same answers, of any judges.

    Returns:
        `groups`: one for each `llm` and `label_source`, and if there are several, one for all together (both None).
        Each has `ratings`, `items`, `raters`, `dimensions` (see `_dimension`), `comparison` (see `_comparison`),
        `agreement` (see `between_raters`) and `judges` (see `with_judges`). What is not defined is None.

    Raises:
        IfllmError: there are no ratings, a rating occurs twice, or no judgment is about a rated pair of answers.
    """
    if ratings.is_empty():
        raise IfllmError("There are no ratings. Import those of at least one rater.")
    for row in ratings.filter(pl.struct("item_id", "rater_id").is_duplicated()).head(1).iter_rows(named=True):
        raise IfllmError(
            f"Item {row['item_id']!r} of rater {row['rater_id']!r} occurs more than once. Name each file of ratings "
            f"once."
        )
    groups = [
        _group(rows, judgments, *names) for names, rows in ratings.group_by("llm", "label_source", maintain_order=True)
    ]
    if len(groups) > 1:
        groups.append(_group(ratings, judgments, None, None))
    if judgments is not None and not any(group["judges"] for group in groups):
        raise IfllmError(
            "No judgment is about a rated pair of answers (same llm, label source, question and both texts). Give the "
            "judgments of the generations that the task was made from."
        )
    return {"groups": groups}


def _group(rows: pl.DataFrame, judgments: pl.DataFrame | None, llm: Any, label_source: Any) -> dict[str, Any]:
    dimensions = [_dimension(rows, name) for name in DIMENSIONS]
    comparison = _comparison(rows)
    tests = [*dimensions, comparison]
    tested = [test for test in tests if test["p"] is not None]
    for test in tests:
        test["p_holm"] = None
    for test, corrected in zip(tested, holm([test["p"] for test in tested]), strict=True):
        test["p_holm"] = corrected
    return {
        "llm": llm,
        "label_source": label_source,
        "ratings": rows.height,
        "items": rows["item_id"].n_unique(),
        "raters": rows["rater_id"].n_unique(),
        "dimensions": dimensions,
        "comparison": comparison,
        "agreement": between_raters(rows),
        "judges": [] if judgments is None else with_judges(rows, judgments),
    }


def _dimension(rows: pl.DataFrame, name: str) -> dict[str, Any]:
    """One question asked of both answers, over the ratings that answer it for both.

    Returns:
        `model`, `baseline`: means over ratings; `difference`: theirs, with the intervals `by_item` and `by_rater`;
        `statistic`, `p`: of the Wilcoxon signed-rank test on the items' differences; see `signed_rank`.
    """
    ours, theirs = f"{name}_model", f"{name}_baseline"
    both = rows.drop_nulls([ours, theirs]).cast({ours: pl.Float64, theirs: pl.Float64})
    return {
        "dimension": name,
        "model": both[ours].mean(),
        "baseline": both[theirs].mean(),
        **_about_zero(both.with_columns(difference=pl.col(ours) - pl.col(theirs)), "difference"),
    }


def _comparison(rows: pl.DataFrame) -> dict[str, Any]:
    """The comparison of both answers against 0, which is no difference.

    Returns:
        `mean` with intervals, `statistic`, `p` as in `_dimension`; `t`, `p_t`: one-sample t-test on items; `votes`: how
        often each value was given; `model`, `tie`, `baseline`: their shares.
    """
    values = rows["comparison"].to_numpy()
    means = _by_item(rows.cast({"comparison": pl.Float64}), "comparison")
    t = ttest_1samp(means, 0) if len(means) > 1 and np.ptp(means) > 0 else None
    return {
        **_about_zero(rows.cast({"comparison": pl.Float64}), "comparison", "mean"),
        "t": None if t is None else float(t.statistic),
        "p_t": None if t is None else float(t.pvalue),
        "votes": {str(value): int((values == value).sum()) for value in COMPARISON},
        "model": float((values > 0).mean()),
        "tie": float((values == 0).mean()),
        "baseline": float((values < 0).mean()),
    }


def _about_zero(rows: pl.DataFrame, column: str, name: str | None = None) -> dict[str, Any]:
    values = rows[column].to_numpy()
    statistic, p = signed_rank(_by_item(rows, column))
    return {
        "ratings": len(values),
        "items": rows["item_id"].n_unique(),
        name or column: float(values.mean()) if len(values) else None,
        "by_item": clustered_interval(values, rows["item_id"].to_numpy()),
        "by_rater": clustered_interval(values, rows["rater_id"].to_numpy()),
        "statistic": statistic,
        "p": p,
    }


def _by_item(rows: pl.DataFrame, column: str) -> np.ndarray:
    """(items,) mean over the raters of each item."""
    return rows.group_by("item_id", maintain_order=True).agg(pl.col(column).mean())[column].to_numpy()


def signed_rank(differences: np.ndarray) -> tuple[float | None, float | None]:
    """The smaller rank sum and the two-sided p of the Wilcoxon signed-rank test; both None where nothing differs.

    Zeros take part in the ranking and have no sign (Pratt 1959). The paper's code drops them first, and a difference
    that grows can then become less significant. The distribution is exact, with ties and zeros, for any number of
    items; scipy's is exact for 13 at most, and takes seconds. Differences are rounded to 9 decimals, so that equal ones
    tie.
    """
    differences = np.round(differences, 9)
    signed = differences != 0
    if not signed.any():
        return None, None
    # Twice the ranks, which ties make half-integers.
    ranks = np.rint(2 * rankdata(abs(differences))).astype(int)
    chance = np.ones(1)  # of each sum of the positive ranks, if every sign is a fair coin
    for rank in ranks[signed]:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    positive, total = ranks[differences > 0].sum(), ranks[signed].sum()
    as_far = abs(2 * np.arange(len(chance)) - total) >= abs(2 * positive - total)
    return float(min(positive, total - positive) / 2), min(1.0, float(chance[as_far].sum()))


def clustered_interval(values: np.ndarray, clusters: np.ndarray) -> Interval | None:
    """`low` and `high` of the mean, by jackknife over clusters; None with fewer than two clusters."""
    return mean_interval(values, clusters) if len(np.unique(clusters)) > 1 else None
