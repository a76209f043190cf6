"""How far raters agree with each other, and with judges."""

from itertools import combinations
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import pearsonr, spearmanr

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.human.questions import COMPARISON, SCALES

_WEIGHTS = {"kappa": None, "kappa_linear": "linear", "kappa_quadratic": "quadratic"}
# The columns that identify a pair of answers.
_SAME = ["llm", "label_source", "question_id", "answer_model", "answer_baseline"]


def between_raters(rows: pl.DataFrame) -> dict[str, Any]:
    """Agreement of raters on the items they share.

    The claim check is left out: each rater looks up a claim of their own choice.

    Returns:
        `questions`: one entry for the comparison and each scale, where a unit is an item, or an answer: `units` (rated
        by two or more), `kappa`, `kappa_linear`, `kappa_quadratic` (Cohen 1960, 1968; means over the `pairs` of raters
        for which it is defined, weighted by shared units), `alpha` (Krippendorff's, ordinal).
        `comparisons`: of all pairs of ratings of an item, `pairs`, the shares `exact` and `within_one`, and
        `same_sign` among the `decisive`, where neither is 0.
        None where not defined: nothing shared, or all the same value.
    """
    questions = [_agreement(rows, "comparison", ["comparison"], tuple(sorted(COMPARISON)))]
    for scale in SCALES:
        answers = [f"{scale.name}_{whose}" for whose in ("model", "baseline")]
        questions.append(_agreement(rows, scale.name, answers, tuple(sorted(scale.options))))
    return {"questions": questions, "comparisons": _comparisons(_matrix(rows, ["comparison"]))}


def _agreement(rows: pl.DataFrame, name: str, columns: list[str], values: tuple[int, ...]) -> dict[str, Any]:
    matrix = _matrix(rows, columns)
    by_pair = [
        (int(both.sum()), _kappas(one[both].astype(int), other[both].astype(int), values))
        for one, other in combinations(matrix, 2)
        if (both := ~np.isnan(one) & ~np.isnan(other)).sum() > 1
    ]
    defined = [(units, kappas) for units, kappas in by_pair if kappas is not None]
    means = {
        key: float(np.average([kappas[key] for _, kappas in defined], weights=[units for units, _ in defined]))
        if defined
        else None
        for key in _WEIGHTS
    }
    units = int(((~np.isnan(matrix)).sum(axis=0) > 1).sum())
    return {"question": name, "units": units, "pairs": len(defined), **means, "alpha": _alpha(matrix, values)}


def _matrix(rows: pl.DataFrame, columns: list[str]) -> np.ndarray:
    """(raters, units) float64, NaN where a rater did not rate a unit."""
    long = rows.select("rater_id", "item_id", *columns).unpivot(index=["rater_id", "item_id"], on=columns)
    wide = long.pivot("rater_id", index=["item_id", "variable"], values="value").drop("item_id", "variable")
    return wide.cast(pl.Float64).fill_null(float("nan")).to_numpy().T


def _kappas(one: np.ndarray, other: np.ndarray, values: tuple[int, ...]) -> dict[str, float] | None:
    from sklearn.metrics import cohen_kappa_score

    if len({*one, *other}) == 1:  # chance agreement is total
        return None
    return {
        key: float(cohen_kappa_score(one, other, labels=values, weights=weights)) for key, weights in _WEIGHTS.items()
    }


def _alpha(matrix: np.ndarray, values: tuple[int, ...]) -> float | None:
    try:
        import krippendorff
    except ImportError as error:
        raise IfllmError("Krippendorff's alpha needs its package: pip install 'ifllm_hub[eval]'.") from error

    shared = matrix[:, (~np.isnan(matrix)).sum(axis=0) > 1]
    if len(np.unique(shared[~np.isnan(shared)])) < 2:
        return None
    return float(krippendorff.alpha(reliability_data=shared, value_domain=values, level_of_measurement="ordinal"))


def _comparisons(matrix: np.ndarray) -> dict[str, Any]:
    pairs = np.hstack([np.stack(pair) for pair in combinations(matrix, 2)] or [np.empty((2, 0))])
    one, other = pairs[:, ~np.isnan(pairs).any(axis=0)]
    decisive = one * other != 0
    return {
        "pairs": len(one),
        "exact": _mean(one == other),
        "within_one": _mean(abs(one - other) <= 1),
        "decisive": int(decisive.sum()),
        "same_sign": _mean((one * other > 0)[decisive]),
    }


def with_judges(rows: pl.DataFrame, judgments: pl.DataFrame) -> list[dict[str, Any]]:
    """Each judge against the raters, over the items whose exact answers it compared.

    An item has the raters' mean comparison, and the judge's score of the model minus that of the baseline, averaged
    over the orders it answered in.

    Returns:
        By `judge`, `preset` and `judge_settings`: `items`, `both_orders` (items judged in both), `pearson` with
        Fisher's 95 % interval (`low`, `high`), `spearman`, `decisive` (items where neither is 0) and `same_sign` among
        them. None where not defined.
    """
    judge = ["judge", "preset", "judge_settings"]
    people = rows.group_by(_SAME, maintain_order=True).agg(people=pl.col("comparison").mean())
    scored = judgments.filter(pl.col("mode") == "pairwise", pl.col("status") == "ok")
    difference = (pl.col("score_model") - pl.col("score_baseline")).mean()
    by_order = scored.group_by(*judge, *_SAME, "order").agg(score=difference)
    by_item = by_order.group_by(*judge, *_SAME).agg(score=pl.col("score").mean(), orders=pl.len())
    together = people.join(by_item, on=_SAME, maintain_order="left")
    return [
        {
            **dict(zip(judge, names, strict=True)),
            "items": items.height,
            "both_orders": int((items["orders"] == 2).sum()),
            **_association(items["people"].to_numpy(), items["score"].to_numpy()),
        }
        for names, items in together.sort(judge, maintain_order=True).group_by(judge, maintain_order=True)
    ]


def _association(people: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    decisive = people * score != 0
    signs = {"decisive": int(decisive.sum()), "same_sign": _mean((people * score > 0)[decisive])}
    if len(people) < 3 or not np.ptp(people) or not np.ptp(score):
        return {"pearson": None, "low": None, "high": None, "spearman": None, **signs}
    pearson = pearsonr(people, score)
    # Below four items Fisher's interval is undefined, and scipy returns infinities.
    low, high = pearson.confidence_interval() if len(people) > 3 else (None, None)
    return {
        "pearson": float(pearson.statistic),
        "low": low if low is None else float(low),
        "high": high if high is None else float(high),
        "spearman": float(spearmanr(people, score).statistic),
        **signs,
    }


def _mean(flags: np.ndarray) -> float | None:
    return float(flags.mean()) if len(flags) else None
