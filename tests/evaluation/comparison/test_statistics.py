"""Estimates equal slow, plain computations; intervals behave as their formulas say."""

import math
import random
import statistics as plain

import numpy as np
import polars as pl
import pytest
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression

from eval.studies.simulated_judge import SimulatedJudge, simulated_judgments
from ifllm_hub.evaluation.comparison.differences import differences
from ifllm_hub.evaluation.comparison.statistics import (
    Resampling,
    contrast,
    length_controlled_logit,
    length_controlled_mean,
    length_term,
    paper_standard_error,
    summary,
    thirds_by_answer,
    thirds_by_prompt,
)
from tests.evaluation.made import both, table


@pytest.fixture(scope="module")
def pairs() -> pl.DataFrame:
    """Four LLMs on 30 prompts, some pairs missing."""
    judge = SimulatedJudge(position_bias=0.5, length_bias=0.5, failing=0.05)
    return differences(simulated_judgments(judge, ["a", "b", "c", "d"], 30, seed=1)).pairs


def test_the_difference_is_the_papers_measure(pairs: pl.DataFrame) -> None:
    found = summary(pairs, draws=50)
    values = [row["score_model"] - row["score_baseline"] for row in pairs.to_dicts()]
    by_llm: dict[str, list[float]] = {}
    for llm, value in zip(pairs["llm"], values, strict=True):
        by_llm.setdefault(llm, []).append(value)
    assert len({len(group) for group in by_llm.values()}) > 1  # so that the two means differ
    assert found["difference"]["mean"] == pytest.approx(plain.fmean(values))
    assert found["difference"]["paper_se"] == pytest.approx(plain.pstdev(values) / math.sqrt(len(values) - 1))
    assert found["mean_over_llms"]["mean"] == pytest.approx(plain.fmean(map(plain.fmean, by_llm.values())))
    wins, ties = sum(value > 0 for value in values), sum(value == 0 for value in values)
    assert found["wins"] == pytest.approx(wins / len(values))
    assert found["win_rate"]["mean"] == pytest.approx((wins + ties / 2) / len(values))
    assert found["wins"] + found["ties"] + found["losses"] == pytest.approx(1)
    firsts = [row["difference_model_first"] for row in pairs.to_dicts()]
    assert found["one_order"]["model_first"] == pytest.approx(plain.fmean(firsts))
    assert (found["n"], found["llms"], found["prompts"]) == (len(values), 4, pairs["question_id"].n_unique())


def test_draws_are_those_of_a_slow_pigeonhole_bootstrap(pairs: pl.DataFrame) -> None:
    """Prompts and LLMs drawn apart, one by one, in plain Python: the same sd of the mean, and of the mean over LLMs."""
    prompts, llms = sorted(set(pairs["question_id"])), sorted(set(pairs["llm"]))
    value = {(row["llm"], row["question_id"]): row["difference"] for row in pairs.to_dicts()}
    rng, means, over_llms = random.Random(0), [], []
    for _ in range(3_000):
        drawn = rng.choices(prompts, k=len(prompts))
        groups = [[value[llm, q] for q in drawn if (llm, q) in value] for llm in rng.choices(llms, k=len(llms))]
        means.append(plain.fmean(v for group in groups for v in group))
        over_llms.append(plain.fmean(map(plain.fmean, groups)))
    resampling = Resampling(pairs["question_id"].to_numpy(), pairs["llm"].to_numpy(), draws=6_000)
    d = pairs["difference"].to_numpy()
    quantile = student.ppf(0.975, len(llms) - 1)
    for found, slow in ((resampling.mean(d), means), (resampling.mean_over_llms(d), over_llms)):
        assert (found["high"] - found["low"]) / 2 == pytest.approx(quantile * plain.pstdev(slow), rel=0.08)


def test_one_llm_is_a_bootstrap_over_prompts() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = Resampling(np.arange(400), np.zeros(400), draws=4_000).mean(values)
    expected = student.ppf(0.975, 399) * values.std() / math.sqrt(400)
    assert found["high"] - found["mean"] == pytest.approx(expected, rel=0.05)


def test_for_these_llms_alone_the_interval_is_narrower() -> None:
    """All LLMs differ, prompts do not: the prompts carry no doubt, the LLMs all of it."""
    llms = np.repeat(np.arange(5), 20)
    prompts, values = np.tile(np.arange(20), 5), llms.astype(float)
    both_ways, over_prompts = (Resampling(prompts, llms, draw_llms).mean(values) for draw_llms in (True, False))
    assert over_prompts["high"] - over_prompts["low"] < 1e-6
    assert both_ways["high"] - both_ways["low"] > 1


def test_seeds_and_row_order(pairs: pl.DataFrame) -> None:
    assert summary(pairs, draws=50) == summary(pairs, draws=50) != summary(pairs, draws=50, seed=1)
    shuffled = summary(pairs.sample(fraction=1, shuffle=True, seed=3), draws=50)
    assert shuffled["difference"]["low"] == pytest.approx(summary(pairs, draws=50)["difference"]["low"])


def test_a_single_pair_has_no_interval() -> None:
    found = summary(differences(table(both(1, (7, 5), (7, 5)))).pairs, draws=20)
    assert found["difference"]["mean"] == 2
    assert all(math.isnan(found["difference"][key]) for key in ("low", "high", "paper_se"))
    assert math.isnan(paper_standard_error(np.ones(1)))


def test_length_controlled_difference_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=200), rng.integers(0, 3, (4, 200)).astype(float)
    values = 0.4 + 0.9 * x + rng.normal(size=200)
    found = length_controlled_mean(weights, values, x)
    expected = [np.polyfit(np.repeat(x, w.astype(int)), np.repeat(values, w.astype(int)), 1)[1] for w in weights]
    assert found == pytest.approx(expected)


def test_length_controlled_win_rate_is_logistic_regression() -> None:
    """As scikit-learn fits it, a tie as half a win and half a loss, with the same weak prior on both coefficients."""
    rng = np.random.default_rng(1)
    x, weights = np.tanh(rng.normal(size=150)), rng.integers(0, 3, (3, 150)).astype(float)
    points = rng.choice([0, 0.5, 1], 150)
    found = length_controlled_logit(weights, points, x)
    design = np.column_stack([np.ones(300), np.concatenate([x, x])])
    wins = np.repeat([1, 0], 150)
    for logit, weight in zip(found, weights, strict=True):
        model = LogisticRegression(C=100, fit_intercept=False, tol=1e-10, max_iter=1_000)
        model.fit(design, wins, np.concatenate([weight * points, weight * (1 - points)]))
        assert logit == pytest.approx(model.coef_[0, 0], abs=1e-5)


@pytest.mark.parametrize("points", [np.ones(50), np.zeros(50), np.repeat([1.0, 0.0], 25)])
def test_it_stays_finite_where_one_side_wins_everything(points: np.ndarray) -> None:
    x = np.linspace(1, -1, 50)
    logit = length_controlled_logit(np.ones((1, 50)), points, x)[0]
    assert math.isfinite(logit)
    assert np.sign(round(logit, 6)) == np.sign(points.mean() - 0.5)


def test_lengths_that_never_differ_control_nothing(pairs: pl.DataFrame) -> None:
    assert length_term(np.array([5, 9]), np.array([2, 6])).tolist() == [0, 0]
    alike = pairs.with_columns(chars_model=pl.col("chars_baseline"))
    found = summary(alike, draws=20)
    assert found["length_controlled_difference"]["mean"] == pytest.approx(found["difference"]["mean"])
    assert found["length_controlled_win_rate"]["mean"] == pytest.approx(found["win_rate"]["mean"], abs=1e-3)


def test_lengths_are_unsigned_numbers_in_the_table(pairs: pl.DataFrame) -> None:
    """A shorter answer is a negative difference, not a huge one."""
    x = length_term(pairs["chars_model"].to_numpy(), pairs["chars_baseline"].to_numpy())
    shorter = (pairs["chars_model"] < pairs["chars_baseline"]).to_numpy()
    assert shorter.any()
    assert (x[shorter] < 0).all()


def test_thirds_by_prompt_are_those_of_the_prompts(pairs: pl.DataFrame) -> None:
    words = {row["question_id"]: (row["words_prompt"], row["question_id"]) for row in pairs.to_dicts()}
    ranked = sorted(words, key=lambda question: words[question])
    expected = [ranked.index(question) * 3 // len(ranked) for question in pairs["question_id"]]
    assert thirds_by_prompt(pairs).tolist() == expected
    parts = summary(pairs, draws=20)["thirds_by_prompt"]
    assert [part["third"] for part in parts] == ["short", "medium", "long"]
    assert sum(part["n"] for part in parts) == pairs.height
    short = [d for d, third in zip(pairs["difference"], expected, strict=True) if third == 0]
    assert parts[0]["mean"] == pytest.approx(plain.fmean(short))


def test_thirds_by_answer_are_within_each_llm(pairs: pl.DataFrame) -> None:
    expected = []
    for row in pairs.to_dicts():
        peers = pairs.filter(pl.col("llm") == row["llm"]).to_dicts()
        shorter = [p for p in peers if (p["words_model"], p["question_id"]) < (row["words_model"], row["question_id"])]
        expected.append(len(shorter) * 3 // len(peers))
    assert thirds_by_answer(pairs).tolist() == expected


def test_a_contrast_uses_what_both_sources_have() -> None:
    rows = [
        *both(1, (7, 5), (7, 5)),
        *both(2, (8, 5), (8, 5)),
        *both(3, (9, 5), (9, 5)),
        *both(1, (6, 5), (6, 5), label_source="explicit", model="a-explicit"),
        *both(2, (4, 5), (4, 5), label_source="explicit", model="a-explicit"),
    ]
    found = differences(table(rows)).pairs
    there = contrast(found, "forest", "explicit", draws=50)
    assert (there["n"], there["mean"]) == (2, ((2 - 1) + (3 - -1)) / 2)
    back = contrast(found, "explicit", "forest", draws=50)
    assert (back["mean"], back["low"]) == (-there["mean"], pytest.approx(-there["high"]))
    assert contrast(found, "forest", "longer") == {"first": "forest", "second": "longer", "n": 0, "llms": 0}
