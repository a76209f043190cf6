"""Scores of human ratings against values worked out by hand, and agreement against slow plain implementations."""

import itertools
import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import t, wilcoxon

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.human.report import ratings_page
from ifllm_hub.evaluation.human.scores import clustered_interval, score_ratings, signed_rank
from ifllm_hub.evaluation.tables import JUDGMENTS, RATINGS
from ifllm_hub.statistics import degrees_of_freedom

# By item: the comparisons of raters ann, bob and cyd; None where a rater did not rate it.
VOTES = {0: (3, 2, None), 1: (1, 1, 2), 2: (0, -1, 0), 3: (-2, 1, None), 4: (2, 2, 3), 5: (0, 0, 0)}


def rating(item: int, rater: str, comparison: int, **changes: Any) -> dict[str, Any]:
    row = dict.fromkeys(RATINGS) | {
        "item_id": f"item{item}",
        "rater_id": rater,
        "llm": "qwen",
        "label_source": "forest",
        "question_id": item,
        "worker_id": "w",
        "messages": [{"role": "user", "content": "?"}],
        "answer_model": f"one {item}",
        "answer_baseline": f"two {item}",
        "order": "model_first",
        "comparison": comparison,
    }
    scales = {"errors": (0, 1), "informativeness": (4, 3), "relevance": (3, 3), "overall": (4, 2)}
    for name, (ours, theirs) in scales.items():
        row |= {f"{name}_model": ours, f"{name}_baseline": theirs}
    return row | changes


def table(rows: list[dict[str, Any]], columns: Any = RATINGS) -> pl.DataFrame:
    return pl.DataFrame(rows, schema_overrides=columns).select(*columns)


def voted(votes: dict[int, tuple[int | None, ...]] = VOTES) -> pl.DataFrame:
    return table(
        [
            rating(item, rater, vote)
            for item, given in votes.items()
            for rater, vote in zip(("ann", "bob", "cyd"), given, strict=True)
            if vote is not None
        ]
    )


def judged(item: int, order: str, ours: float, theirs: float, **changes: Any) -> dict[str, Any]:
    names = ("llm", "label_source", "question_id", "worker_id", "messages", "answer_model", "answer_baseline")
    same = {name: rating(item, "ann", 0)[name] for name in names}
    judge = {"judgment_id": f"{item}{order}", "mode": "pairwise", "preset": "corrected", "judge": "j"}
    said = {"judge_settings": "{}", "order": order, "status": "ok", "score_model": ours, "score_baseline": theirs}
    return dict.fromkeys(JUDGMENTS) | same | judge | said | changes


def brute_force_p(differences: list[float]) -> float:
    """Pratt's signed-rank test by going through all signs: how many give a sum at least as far from its mean."""
    sizes = sorted(abs(d) for d in differences)
    ranks = [np.mean([at + 1 for at, size in enumerate(sizes) if size == abs(d)]) for d in differences]
    ranks = [rank for rank, d in zip(ranks, differences, strict=True) if d]
    mean = sum(ranks) / 2
    observed = abs(sum(rank for rank, d in zip(ranks, filter(None, differences), strict=True) if d > 0) - mean)
    sums = [sum(itertools.compress(ranks, signs)) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return float(np.mean([abs(value - mean) >= observed - 1e-9 for value in sums]))


def test_comparison_by_hand() -> None:
    (group,) = score_ratings(voted())["groups"]
    comparison = group["comparison"]
    assert (group["ratings"], group["items"], group["raters"]) == (16, 6, 3)
    assert comparison["mean"] == pytest.approx(14 / 16)
    assert comparison["votes"] == {"3": 2, "2": 4, "1": 3, "0": 5, "-1": 1, "-2": 1, "-3": 0}
    assert (comparison["model"], comparison["tie"], comparison["baseline"]) == (9 / 16, 5 / 16, 2 / 16)
    means = [5 / 2, 4 / 3, -1 / 3, -1 / 2, 7 / 3, 0]
    mean = sum(means) / 6
    variance = sum((value - mean) ** 2 for value in means) / 5
    assert comparison["t"] == pytest.approx(mean / math.sqrt(variance / 6))
    # Ranks of |means| with the 0: 0 -> 1, 1/3 -> 2, 1/2 -> 3, 4/3 -> 4, 7/3 -> 5, 5/2 -> 6; the negative ones sum to 5.
    assert comparison["statistic"] == 5
    assert comparison["p"] == pytest.approx(brute_force_p(means))


def test_dimensions_by_hand() -> None:
    rows = voted().with_columns(
        overall_model=pl.when(pl.col("question_id") == 0).then(1).otherwise(pl.col("overall_model")).cast(pl.Int8),
        claim_supported_model=pl.when(pl.col("question_id") < 2).then(True),
        claim_supported_baseline=pl.when(pl.col("question_id") == 1).then(pl.col("rater_id") == "ann"),
    )
    (group,) = score_ratings(rows)["groups"]
    found = {row["dimension"]: row for row in group["dimensions"]}
    assert list(found) == ["claim_supported", "errors", "informativeness", "relevance", "overall"]
    claim = found["claim_supported"]  # only item 1, rated by three, has both claims looked up
    assert (claim["ratings"], claim["items"], claim["model"]) == (3, 1, 1)
    assert claim["baseline"] == pytest.approx(1 / 3)
    assert claim["by_item"] is None
    assert found["errors"]["difference"] == -1
    assert found["relevance"] | {"p_holm": None} == found["relevance"] | {"difference": 0, "p": None, "statistic": None}
    overall = found["overall"]  # -1 for the two ratings of item 0, else 2
    assert overall["model"] == pytest.approx((2 * 1 + 14 * 4) / 16)
    assert overall["difference"] == pytest.approx((2 * -1 + 14 * 2) / 16)
    assert overall["p"] == pytest.approx(brute_force_p([-1, 2, 2, 2, 2, 2]))
    # Six equal differences: p = 2/64; five p-values are defined.
    assert found["errors"]["p"] == pytest.approx(2 / 64)
    assert found["errors"]["p_holm"] == pytest.approx(5 * 2 / 64)


def test_signed_rank_keeps_zeros_in_the_ranking() -> None:
    few = [0.0] * 6 + [1.0, 2.0, 3.0, 4.0, -5.0]
    assert signed_rank(np.array(few))[1] == pytest.approx(brute_force_p(few))
    assert signed_rank(np.array(few))[1] != pytest.approx(brute_force_p(few[6:]))  # with the zeros dropped first
    assert signed_rank(np.zeros(4)) == (None, None)
    many = np.random.default_rng(0).normal(0.2, 1, size=40)
    assert signed_rank(many) == pytest.approx(tuple(wilcoxon(many, method="exact")))
    # 1/3 as a mean of different sums is not always the same number; equal differences must tie all the same.
    third = [1 / 3, (0.1 + 0.2 + 0.7) / 3, -(1 - 2 / 3), 2.0]
    assert signed_rank(np.array(third))[0] == 2  # ranks 2, 2, 2, 4


def test_interval_of_whole_clusters() -> None:
    """Against clusters left out one at a time; ratings of one item add nothing to what it says."""
    values, clusters = np.array([0.0, 0.0, 0.0, 1.0, 2.0, 5.0]), np.array([1, 1, 1, 2, 3, 3])
    found = clustered_interval(values, clusters)
    assert found is not None
    without = np.array([values[clusters != cluster].mean() for cluster in (1, 2, 3)])
    error = np.sqrt(((without - values.mean()) ** 2).sum() * 2 / 3)
    half = error * t.isf(0.025, degrees_of_freedom(values, clusters))
    assert [found["low"], found["high"]] == pytest.approx([values.mean() - half, values.mean() + half])
    generator = np.random.default_rng(2)
    items = generator.normal(size=30)
    once = clustered_interval(items, np.arange(30))
    tenfold = clustered_interval(np.repeat(items, 10), np.repeat(np.arange(30), 10))
    assert once == pytest.approx(tenfold)
    assert clustered_interval(values, np.ones(6)) is None


def test_interval_covers_the_truth() -> None:
    """Raters of an item agree much. Intervals over items cover the mean in most of 50 studies; naive ones do not."""
    generator = np.random.default_rng(3)
    covered = naive = 0
    for _ in range(50):
        items = np.repeat(generator.normal(0.5, 1, size=30), 4)
        values = items + generator.normal(0, 0.3, size=120)
        over_items = clustered_interval(values, np.repeat(np.arange(30), 4))
        over_ratings = clustered_interval(values, np.arange(120))
        assert over_items is not None
        assert over_ratings is not None
        covered += over_items["low"] <= 0.5 <= over_items["high"]
        naive += over_ratings["low"] <= 0.5 <= over_ratings["high"]
    assert covered >= 43
    assert naive < 40


def slow_kappa(one: list[int], other: list[int], values: list[int], power: int) -> float:
    """1 - observed / expected disagreement; the power of the distance is 0 for unweighted."""

    def disagreement(a: int, b: int) -> float:
        return float(a != b) if power == 0 else abs(values.index(a) - values.index(b)) ** power

    observed = np.mean([disagreement(a, b) for a, b in zip(one, other, strict=True)])
    return 1 - float(observed / np.mean([disagreement(a, b) for a in one for b in other]))


def slow_alpha(units: list[list[int]]) -> float:
    """Krippendorff's alpha, ordinal, by its definition over all pairable values."""
    units = [unit for unit in units if len(unit) > 1]
    pooled = [value for unit in units for value in unit]
    count = {value: pooled.count(value) for value in pooled}

    def distance(a: int, b: int) -> float:
        low, high = sorted((a, b))
        between = sum(n for value, n in count.items() if low <= value <= high)
        return (between - (count[low] + count[high]) / 2) ** 2

    observed = sum(
        sum(distance(a, b) for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units
    ) / len(pooled)
    expected = sum(distance(a, b) for a, b in itertools.permutations(pooled, 2))
    return 1 - observed / (expected / (len(pooled) * (len(pooled) - 1)))


def test_agreement_between_raters() -> None:
    (group,) = score_ratings(voted())["groups"]
    agreement = group["agreement"]
    comparison = agreement["questions"][0]
    given = [[vote for vote in votes if vote is not None] for votes in VOTES.values()]
    shared = {
        (a, b): [(v[a], v[b]) for v in VOTES.values() if v[a] is not None and v[b] is not None]
        for a, b in ((0, 1), (0, 2), (1, 2))
    }
    scale = [-3, -2, -1, 0, 1, 2, 3]
    for power, name in enumerate(("kappa", "kappa_linear", "kappa_quadratic")):
        kappas = [slow_kappa(*map(list, zip(*pairs, strict=True)), scale, power) for pairs in shared.values()]
        assert comparison[name] == pytest.approx(np.average(kappas, weights=[6, 4, 4]))
    assert (comparison["question"], comparison["units"], comparison["pairs"]) == ("comparison", 6, 3)
    assert comparison["alpha"] == pytest.approx(slow_alpha(given))
    pairs = [pair for both in shared.values() for pair in both]
    assert agreement["comparisons"] == {
        "pairs": 14,
        "exact": sum(a == b for a, b in pairs) / 14,
        "within_one": sum(abs(a - b) <= 1 for a, b in pairs) / 14,
        "decisive": 8,
        "same_sign": 7 / 8,  # all but item 3
    }


def test_answers_are_the_units_of_scales() -> None:
    rows = voted().with_columns(overall_model=pl.when(pl.col("rater_id") == "bob").then(5).otherwise(4).cast(pl.Int8))
    (group,) = score_ratings(rows)["groups"]
    overall = next(row for row in group["agreement"]["questions"] if row["question"] == "overall")
    assert overall["units"] == 12
    units = [[5 if rater == 1 else 4 for rater, vote in enumerate(v) if vote is not None] for v in VOTES.values()]
    units += [[2 for vote in v if vote is not None] for v in VOTES.values()]
    assert overall["alpha"] == pytest.approx(slow_alpha(units))
    relevance = next(row for row in group["agreement"]["questions"] if row["question"] == "relevance")
    assert (relevance["kappa"], relevance["alpha"], relevance["pairs"]) == (None, None, 0)  # everybody always says 3


def test_agreement_with_a_judge() -> None:
    judgments = table(
        [
            *(judged(0, order, 8, 4) for order in ("model_first", "baseline_first")),
            judged(1, "model_first", 9, 4),
            judged(1, "baseline_first", 5, 6),  # both: (5 - 1) / 2 = 2
            judged(2, "model_first", 5, 5),
            judged(3, "model_first", 7, 3),
            judged(4, "model_first", 4, 3),
            judged(4, "baseline_first", 0, 0, status="malformed", score_model=None, score_baseline=None),
            judged(5, "model_first", 6, 3),
            judged(5, "model_first", 9, 1, mode="single"),
            judged(0, "model_first", 1, 9, answer_model="another answer"),
        ],
        JUDGMENTS,
    )
    (group,) = score_ratings(voted(), judgments)["groups"]
    (judge,) = group["judges"]
    people, scores = [5 / 2, 4 / 3, -1 / 3, -1 / 2, 7 / 3, 0], [4, 2, 0, 4, 1, 3]
    assert (judge["judge"], judge["preset"], judge["items"], judge["both_orders"]) == ("j", "corrected", 6, 2)
    assert judge["pearson"] == pytest.approx(np.corrcoef(people, scores)[0, 1])
    z = math.atanh(judge["pearson"])
    assert judge["low"] == pytest.approx(math.tanh(z - 1.959964 / math.sqrt(3)), abs=1e-6)
    ranks = [6, 4, 2, 1, 5, 3], [5.5, 3, 1, 5.5, 2, 4]
    assert judge["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert (judge["decisive"], judge["same_sign"]) == (4, 3 / 4)  # item 2 is a tie of the judge, 5 of people; 3 differs


def test_nothing_decisive_divides_nothing() -> None:
    ties = voted({0: (0, 0, None), 1: (0, None, 0)})
    judgments = table([judged(0, "model_first", 5, 5), judged(1, "model_first", 5, 5)], JUDGMENTS)
    (group,) = score_ratings(ties, judgments)["groups"]
    assert group["comparison"] | {"p": None, "t": None, "p_t": None, "p_holm": None, "mean": 0} == group["comparison"]
    assert group["agreement"]["comparisons"]["same_sign"] is None
    assert group["judges"][0] | {"pearson": None, "same_sign": None, "decisive": 0} == group["judges"][0]
    one = voted({0: (2, None, None)})
    (alone,) = score_ratings(one)["groups"]
    assert alone["comparison"]["by_item"] is None
    assert alone["agreement"]["comparisons"] == {
        "pairs": 0,
        "exact": None,
        "within_one": None,
        "decisive": 0,
        "same_sign": None,
    }
    json.dumps([group, alone], allow_nan=False)
    assert "No item was rated by two raters." in ratings_page({"groups": [alone]})


def test_no_ratings_or_judgments_of_other_answers() -> None:
    with pytest.raises(IfllmError, match="no ratings"):
        score_ratings(voted().clear())
    with pytest.raises(IfllmError, match="Item 'item2' of rater 'bob' occurs more than once"):
        score_ratings(pl.concat([voted(), table([rating(2, "bob", 3)])]))
    other = table([judged(0, "model_first", 5, 5, answer_baseline="another")], JUDGMENTS)
    with pytest.raises(IfllmError, match="No judgment is about a rated pair"):
        score_ratings(voted(), other)


def test_report_of_two_conditions() -> None:
    second = voted().with_columns(
        item_id=pl.col("item_id") + "b", label_source=pl.lit("text | `x`"), comparison=-pl.col("comparison")
    )
    scores = score_ratings(
        pl.concat([voted(), second]), table([judged(0, "model_first", 8, 4, judge="j|k\n")], JUDGMENTS)
    )
    assert [group["label_source"] for group in scores["groups"]] == ["forest", "text | `x`", None]
    assert scores["groups"][2]["comparison"]["mean"] == 0
    assert scores["groups"][2]["items"] == 12
    page = ratings_page(scores)
    assert "## `qwen`, labels `text | 'x'`" in page
    assert "## All together" in page
    assert "| comparison (-3 to 3) | 16 |  |  | +0.875 [" in page
    assert "| ratings | 0 | 1 | 1 | 5 | 3 | 4 | 2 |" in page
    assert "Of 14 pairs of comparisons" in page
    assert r"| `j\|k` | corrected | 1 (0) | - - | - | 100.0 % of 1 |" in page
