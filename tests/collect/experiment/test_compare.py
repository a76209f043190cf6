"""The comparison of arms: its numbers computed in another way, what its intervals hold, and what it refuses."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from ifllm_hub.collect.experiment.compare import Comparison, compare_arms
from ifllm_hub.errors import IfllmError


def made(
    seed: int = 0,
    people: int = 60,
    shares: dict[str, float] | None = None,
    effect: float = 0.0,
    questions: float = 4,
) -> pl.DataFrame:
    """Ratings of people who differ, with `effect` in every arm but the first; a third of the questions is not rated."""
    rng = np.random.default_rng(seed)
    shares = shares or {"A": 0.5, "B": 0.5}
    rows = []
    for person in range(people):
        arm = str(rng.choice(list(shares), p=list(shares.values())))
        own = rng.normal(3, 0.7) + effect * (arm != "A")
        for _ in range(1 + rng.poisson(questions - 1)):
            rated = rng.random() < 2 / 3
            rows.append(
                {
                    "worker_id": f"reader_{person}",
                    "arm": arm,
                    "propensity": shares[arm],
                    "rating": float(own + rng.normal()) if rated else None,
                    "judged": rated,
                    "length": float(rng.integers(200, 900)),
                }
            )
    return pl.DataFrame(rows)


def rating(comparison: Comparison) -> dict[str, object]:
    return {one["outcome"]: one for one in comparison["outcomes"]}["rating"]  # type: ignore[return-value]


def test_means_and_difference_by_hand() -> None:
    """With constant propensities Hajek's mean is the plain one, and the jackknife is made by leaving out people."""
    rows = made().drop_nulls("rating")
    found = rating(compare_arms(rows))
    for mean in found["means"]:
        values = rows.filter(arm=mean["arm"])["rating"].to_numpy()
        assert mean["mean"] == pytest.approx(values.mean())
        assert (mean["questions"], mean["people"]) == (
            len(values),
            rows.filter(arm=mean["arm"])["worker_id"].n_unique(),
        )
    difference = found["differences"][0]
    a, b = (rows.filter(arm=arm) for arm in "AB")
    assert difference["mean"] == pytest.approx(b["rating"].mean() - a["rating"].mean())
    variance = 0.0
    for part in (a, b):
        names = part["worker_id"].unique()
        without = np.array([part.filter(pl.col("worker_id") != name)["rating"].mean() for name in names])
        variance += (len(names) - 1) / len(names) * ((without - part["rating"].mean()) ** 2).sum()
    half = (difference["high"] - difference["low"]) / 2
    t = half / np.sqrt(variance)
    assert stats.t.isf(0.025, 60) < t < stats.t.isf(0.025, 15)
    assert (difference["low"] + difference["high"]) / 2 == pytest.approx(difference["mean"])


def test_propensities_that_changed_are_weighed() -> None:
    """A ramp from 10 % to 50 %: who came late rates lower whatever they see, and only the weights see through it."""
    rng = np.random.default_rng(1)
    early = rng.random(20_000) < 0.5
    share = np.where(early, 0.1, 0.5)
    treated = rng.random(20_000) < share
    ratings = 4 - 2 * ~early + 0.3 * treated + rng.normal(0, 0.5, 20_000)
    rows = pl.DataFrame(
        {
            "worker_id": [f"r{number:05}" for number in range(20_000)],
            "arm": np.where(treated, "B", "A"),
            "propensity": np.where(treated, share, 1 - share),
            "rating": ratings,
        }
    )
    comparison = compare_arms(rows)
    difference = rating(comparison)["differences"][0]
    assert difference["low"] < 0.3 < difference["high"]
    assert difference["high"] - difference["low"] < 0.1
    assert ratings[treated].mean() - ratings[~treated].mean() < -0.3  # what plain means would say
    assert comparison["sample_ratio"] is None
    assert [arm["propensity"] for arm in comparison["arms"]] == [None, None]


@pytest.mark.parametrize(("shares", "people"), [({"A": 0.5, "B": 0.5}, 40), ({"A": 0.8, "B": 0.2}, 60)])
@pytest.mark.parametrize("effect", [0.0, 0.5])
def test_intervals_hold_the_truth(shares: dict[str, float], people: int, effect: float) -> None:
    """In 95 of 100 experiments, give or take what 200 of them leave to chance; and so do tests that reject."""
    held, rejected, n = 0, 0, 200
    for seed in range(n):
        difference = rating(compare_arms(made(seed, people, shares, effect)))["differences"][0]
        held += difference["low"] <= effect <= difference["high"]
        rejected += difference["p"] < 0.05
    assert stats.binomtest(held, n, 0.95).pvalue > 0.001
    assert (rejected == n - held) if effect == 0 else rejected > n / 5


def test_people_in_several_arms() -> None:
    """Drawn for each question: the arms share people, whose habits drop out of the difference."""
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(80), 10)
    arms = rng.choice(["A", "B"], len(people))
    ratings = rng.normal(0, 2, 80)[people] + 0.5 * (arms == "B") + rng.normal(0, 0.3, len(people))
    rows = pl.DataFrame(
        {
            "worker_id": people.astype(str),
            "arm": arms,
            "propensity": 0.5,
            "rating": ratings,
            "judged": True,
            "length": 1.0,
        }
    )
    with pytest.raises(IfllmError, match=r"80 people are in several arms .*--unit question"):
        compare_arms(rows)
    comparison = compare_arms(rows, unit="question")
    difference = rating(comparison)["differences"][0]
    assert difference["low"] < 0.5 < difference["high"]
    # Of independent people it would be wider: their means vary by 2 / sqrt(40) in each arm.
    assert difference["high"] - difference["low"] < 1.96 * 2 * 2 / np.sqrt(40)
    assert comparison["sample_ratio"]["p"] == pytest.approx(
        stats.chisquare([(arms == arm).sum() for arm in "AB"]).pvalue
    )


def test_three_arms_and_the_choice_of_the_control() -> None:
    shares = {"A": 0.2, "B": 0.3, "C": 0.5}
    rows = made(3, 200, shares)
    every = compare_arms(rows)
    assert [arm["arm"] for arm in every["arms"]] == ["A", "B", "C"]
    assert every["propensities"] == pytest.approx(1)
    counts = [arm["people"] for arm in every["arms"]]
    assert every["sample_ratio"]["p"] == pytest.approx(stats.chisquare(counts, [40, 60, 100]).pvalue)
    tested = [one for outcome in every["outcomes"] for one in outcome["differences"]]
    assert len(tested) == 2 * len(every["outcomes"])
    order = np.argsort([one["p"] for one in tested])
    least = tested[order[0]]
    assert least["adjusted_p"] == pytest.approx(min(1, len(tested) * least["p"]))
    two = compare_arms(rows, ["C", "A"])
    assert [arm["arm"] for arm in two["arms"]] == ["C", "A"]
    assert two["propensities"] == pytest.approx(0.7)
    backwards = rating(every)["differences"][1]
    assert rating(two)["differences"][0]["mean"] == pytest.approx(-backwards["mean"])
    assert rating(two)["differences"][0]["low"] == pytest.approx(-backwards["high"])


def test_a_mismatch_is_found() -> None:
    rows = made(4, 600)
    lost = rows.filter(arm="B")["worker_id"].unique().sort()[:100]
    assert compare_arms(rows)["sample_ratio"]["p"] > 0.01
    assert compare_arms(rows.filter(~pl.col("worker_id").is_in(lost.implode())))["sample_ratio"]["p"] < 0.001


def test_nothing_is_claimed_where_nobody_differs_or_there_is_one_person() -> None:
    rows = made().with_columns(length=pl.when(arm="B").then(10.0).otherwise(20.0))
    one = {outcome["outcome"]: outcome for outcome in compare_arms(rows)["outcomes"]}["length"]["differences"][0]
    assert one == {"arm": "B", "mean": -10.0, "low": None, "high": None, "p": None, "adjusted_p": None}
    same = rating(compare_arms(made(5, 90, {"A": 0.3, "B": 0.7}).with_columns(rating=pl.lit(4.1))))
    assert same["differences"][0]["p"] is None
    single = rows.filter(pl.col("arm") == "B")["worker_id"][0]
    alone = rating(compare_arms(rows.filter((pl.col("arm") == "A") | (pl.col("worker_id") == single))))
    assert alone["means"][1]["people"] == 1
    assert alone["means"][1]["low"] is None
    assert alone["differences"][0]["p"] is None
    unrated = rows.with_columns(rating=pl.when(arm="A").then("rating"))
    assert rating(compare_arms(unrated))["means"][1]["mean"] is None
    assert rating(compare_arms(unrated))["differences"] == []


@pytest.mark.parametrize(
    ("rows", "arms", "said"),
    [
        (made().with_columns(arm=pl.lit(None, pl.String)), [], "No question has an arm"),
        (made().filter(arm="A"), [], "'A' is the only arm"),
        (made(), ["A", "C"], "There is no arm 'C' in this dataset, only 'A', 'B'"),
        (made(), ["B"], "'B' is the only arm"),
    ],
)
def test_what_cannot_be_compared(rows: pl.DataFrame, arms: list[str], said: str) -> None:
    with pytest.raises(IfllmError, match=said):
        compare_arms(rows, arms)
