"""Personalization: an offset from a worker's earlier ratings, never from the pair's own or a later one."""

import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from scipy.stats import norm

from eval.studies.personal import VARIANCES, earlier_ratings, offset_variance, personalized, side_offset
from ifllm_hub.reward.protocol.candidates import logistic
from ifllm_hub.reward.protocol.folds import correct, out_of_fold
from ifllm_hub.reward.protocol.pairs import Pairs
from tests.reward.made import made

WORKERS, EACH = 24, 30
START = datetime(2024, 1, 1)


def leaning(spread: float, seed: int = 0) -> tuple[Pairs, np.ndarray]:
    """Pairs of workers with normal offsets of this standard deviation, in an order unlike that of asking, and p."""
    rng = np.random.default_rng(seed)
    worker = np.repeat(np.arange(WORKERS), EACH)
    x = rng.normal(size=len(worker))
    left = rng.random(len(worker)) < expit(x + spread * rng.normal(size=WORKERS)[worker])
    asked = [START + timedelta(minutes=int(minute)) for minute in rng.permutation(len(worker))]
    pairs = made(left.tolist(), worker.tolist(), length_log_ratio=x.tolist())
    rows = pairs.rows.with_columns(asked_at=pl.Series(asked), rating_left=pl.lit(3), rating_right=pl.lit(3))
    return Pairs(rows), expit(x)[None]


def constant(pairs: Pairs, variance: float = 1.0) -> np.ndarray:
    return np.full((1, len(pairs)), variance)


def with_labels(pairs: Pairs, y: np.ndarray) -> Pairs:
    return Pairs(pairs.rows.with_columns(preference=pl.Series(np.where(y == 1, "left", "right"))))


def test_earlier_ratings_count_by_time_within_the_worker() -> None:
    pairs = made([True] * 5, [1, 2, 1, 1, 2])
    rows = pairs.rows.with_columns(asked_at=pl.Series([START + timedelta(days=day) for day in (3, 1, 1, 3, 0)]))
    assert earlier_ratings(Pairs(rows)).tolist() == [1, 1, 0, 2, 0], "pairs asked at once stand in the order of ids"


@pytest.mark.parametrize("variance", VARIANCES)
def test_without_ratings_every_probability_stays_to_the_bit(variance: float) -> None:
    pairs, _ = leaning(1.0)
    probability = np.random.default_rng(0).random((2, len(pairs)))
    both = np.repeat(constant(pairs, variance), 2, axis=0)
    assert np.array_equal(personalized(probability, both, pairs, 0), probability)


@pytest.mark.parametrize("variance", [0.01, 0.5, 4.0])
@pytest.mark.parametrize("count", [1, 7, 40])
def test_the_offset_is_the_one_an_independent_optimizer_finds(variance: float, count: int) -> None:
    rng = np.random.default_rng(count)
    probability, y = rng.uniform(0.05, 0.95, count), rng.integers(2, size=count)

    def cost(offset: float) -> float:
        likely = expit(logit(probability) + offset)
        return -np.log(np.where(y == 1, likely, 1 - likely)).sum() - norm.logpdf(offset, scale=np.sqrt(variance))

    found = minimize_scalar(cost, bounds=(-10, 10), method="bounded", options={"xatol": 1e-10})
    assert side_offset(probability, y, variance) == pytest.approx(found.x, abs=1e-5)


def test_the_offset_follows_one_sided_ratings_and_mirrors() -> None:
    probability = np.full(6, 0.5)
    left = side_offset(probability, np.ones(6), 1.0)
    assert 0 < left < side_offset(probability, np.ones(6), 4.0)
    assert side_offset(probability, np.zeros(6), 1.0) == pytest.approx(-left)


@pytest.mark.parametrize("first", [5, 20, 1_000])
def test_neither_its_own_rating_nor_a_later_one_moves_a_pair(first: int) -> None:
    pairs, probability = leaning(1.0)
    before = earlier_ratings(pairs)
    told = personalized(probability, constant(pairs), pairs, first)
    for known in (0, 3, 20):
        lied = with_labels(pairs, np.where(before < known, pairs.y, 1 - pairs.y))
        got = personalized(probability, constant(pairs), lied, first)
        until = before <= known
        assert np.array_equal(got[:, until], told[:, until])
    sides = [with_labels(pairs, np.where(before < first, side, pairs.y)) for side in (0, 1)]
    right, left = (personalized(probability, constant(pairs), one, first)[0] for one in sides)
    assert np.array_equal(right < left, before > 0), "earlier ratings do count"


def test_ratings_beyond_the_first_do_not_count() -> None:
    pairs, probability = leaning(1.0)
    before = earlier_ratings(pairs)
    lied = with_labels(pairs, np.where(before < 5, pairs.y, 1 - pairs.y))
    told, got = (personalized(probability, constant(pairs), one, 5) for one in (pairs, lied))
    assert np.array_equal(told, got)


def test_ratings_in_the_pairs_own_conversation_can_be_left_out() -> None:
    pairs, probability = leaning(1.0)
    pairs = Pairs(pairs.rows.with_columns(conversation_id=pl.col("question_id") // 10))
    own = pairs.rows["conversation_id"].to_numpy() == 4
    lied = with_labels(pairs, np.where(own, 1, 0))
    other = with_labels(pairs, np.zeros(len(pairs)))
    for counts in (True, False):
        told, got = (personalized(probability, constant(pairs), one, 30, counts)[:, own] for one in (other, lied))
        assert np.array_equal(told, got) != counts


def test_one_workers_ratings_move_nobody_else() -> None:
    pairs, probability = leaning(1.0)
    own = pairs.rows["worker_id"].to_numpy() == "w3"
    lied = with_labels(pairs, np.where(own, 1 - pairs.y, pairs.y))
    told, got = (personalized(probability, constant(pairs), one, 20) for one in (pairs, lied))
    assert np.array_equal(told[:, ~own], got[:, ~own])


def test_twenty_ratings_help_with_workers_who_lean_to_a_side() -> None:
    pairs, _ = leaning(2.0)
    fit = logistic(("length_log_ratio",))
    probability, variance = (out_of_fold(pairs, one, "worker", 1) for one in (fit, offset_variance(fit)))
    later = earlier_ratings(pairs) >= 20
    none, five, twenty = (personalized(probability, variance, pairs, first)[:, later] for first in (0, 5, 20))
    y = pairs.y[later]
    assert correct(twenty, y).mean() > correct(none, y).mean() + 0.05
    assert ((twenty - y) ** 2).mean() < ((five - y) ** 2).mean() < ((none - y) ** 2).mean()


@pytest.mark.parametrize(("spread", "low", "high"), [(0.0, 0.01, 0.05), (0.7, 0.2, 1.0), (1.6, 1.0, 4.0)])
def test_the_variance_is_that_of_the_training_workers(spread: float, low: float, high: float) -> None:
    pairs, _ = leaning(spread, seed=1)
    lied = with_labels(pairs, np.where(pairs.groups("worker_id") == 1, 1, pairs.y))
    held_out = pl.col("worker_id") == pairs.rows["worker_id"][0]
    estimate = offset_variance(logistic(("length_log_ratio",)))
    chosen = estimate(pairs.filter(~held_out), pairs.filter(held_out), 0)
    assert np.unique(chosen).size == 1
    assert low <= chosen[0] <= high
    assert np.array_equal(chosen, estimate(lied.filter(~held_out), lied.filter(held_out), 0)), "test labels count"


def test_left_and_right_are_treated_alike() -> None:
    pairs, probability = leaning(1.0)
    mirrored = with_labels(pairs, 1 - pairs.y)
    told = personalized(probability, constant(pairs), pairs, 20)
    back = personalized(1 - probability, constant(pairs), mirrored, 20)
    assert np.allclose(back, 1 - told)


@pytest.mark.slow
def test_the_study_of_ideas_writes_the_same_page_twice(study: Path, tmp_path: Path) -> None:
    pages = [tmp_path / "one.md", tmp_path / "two.md"]
    for page in pages:
        command = [sys.executable, "-m", "eval.studies.reward_ideas", study, "--out", page, "--seeds", "1"]
        subprocess.run(command, cwd=Path(__file__).parents[2], check=True)
    text = pages[0].read_text()
    assert pages[1].read_text() == text
    tables = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert {len(cells) for cells in tables} == {6, 8, 9}, "ideas, variances and offsets"
    assert text.count("**contrasts of the model**") == 2, "with and without the excluded workers"
    assert "nan" not in text
