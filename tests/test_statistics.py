"""Intervals, and that computing one draws nothing."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from ifllm_hub.statistics import (
    anova_size,
    components,
    degrees_of_freedom,
    detectable,
    effective_workers,
    holm,
    jackknife_mean,
    jackknife_sums,
    left_out,
    logistic,
    mean_interval,
    residual_form,
    simultaneous,
    wilson,
)

# As unequal as the study's: pairs of each of 46 workers.
SIZES = np.array([120, 83, 64, 40, 33, *[25] * 6, *[12] * 9, *[6] * 12, *[2] * 14])
WORKERS = np.repeat(np.arange(len(SIZES)), SIZES)


def test_the_interval_of_a_share() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_pairs_of_one_worker_count_as_one() -> None:
    values = np.repeat([0.0, 1.0] * 10, 5)
    alike = mean_interval(values, np.repeat(np.arange(20), 5))
    apart = mean_interval(values, np.arange(100))
    assert alike["high"] - alike["low"] > 1.8 * (apart["high"] - apart["low"])


def test_the_jackknife_leaves_out_one_worker_at_a_time() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=len(WORKERS)) + 0.3 * generator.normal(size=len(SIZES))[WORKERS]
    found = jackknife_mean(values, WORKERS)
    without = np.array([values[worker != WORKERS].mean() for worker in range(len(SIZES))])
    assert found.mean == pytest.approx(values.mean())
    assert found.standard_error**2 == pytest.approx(45 / 46 * ((without - values.mean()) ** 2).sum())
    half = stats.t.ppf(0.975, found.df) * found.standard_error
    assert found.interval() == {"low": pytest.approx(found.mean - half), "high": pytest.approx(found.mean + half)}
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.mean / found.standard_error), found.df))
    # At the edge of its interval, an estimate is as far from 0 as 5 % allow.
    edge = jackknife_mean(values - found.interval()["low"], WORKERS)
    assert edge.p == pytest.approx(0.05)


@pytest.mark.parametrize("between", [0.0, 0.05, 1.0])
def test_degrees_of_freedom_against_the_matrix(between: float) -> None:
    """The moments of the quadratic form, with its G x G matrix written out."""
    generator = np.random.default_rng(2)
    values = generator.normal(size=len(WORKERS)) + between**0.5 * generator.normal(size=len(SIZES))[WORKERS]
    n, count = len(values), len(SIZES)
    means = np.array([values[worker == WORKERS].mean() for worker in range(count)])
    within = ((values - means[WORKERS]) ** 2).sum() / (n - count)
    among = (SIZES * (means - values.mean()) ** 2).sum() / (count - 1)
    random = max((among - within) * (count - 1) / (n - (SIZES**2).sum() / n), 0)
    covariance = within * np.eye(n) + random * (WORKERS[:, None] == WORKERS)
    residuals = np.eye(n) - 1 / n
    totals = (np.arange(count)[:, None] == WORKERS) @ residuals
    leverage = np.diag(n / (n - SIZES))
    form = leverage @ totals @ covariance @ totals.T @ leverage
    assert degrees_of_freedom(values, WORKERS) == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))


def test_degrees_of_freedom_of_equal_workers_are_one_less_than_workers() -> None:
    values = np.random.default_rng(3).normal(size=200)
    assert degrees_of_freedom(values, np.arange(200) % 20) == pytest.approx(19, rel=0.01)
    assert degrees_of_freedom(values, np.arange(200)) == pytest.approx(199, rel=0.01)
    assert degrees_of_freedom(np.ones(200), np.arange(200) % 20) == 19


def test_what_a_single_worker_says_of_others_is_not_defined() -> None:
    alone = jackknife_mean(np.array([0.0, 1.0, 1.0]), np.zeros(3))
    assert np.isnan(alone.interval()["low"])
    assert alone.p == 1.0


def test_what_rests_on_one_worker_has_no_interval() -> None:
    """Only the first worker has what is measured: without anybody else it stays, without the first there is none."""
    parts = np.column_stack([WORKERS == 0, (WORKERS == 0) * np.arange(len(WORKERS))]).astype(float)
    found = jackknife_sums(lambda sums: sums[..., 1] / sums[..., 0], parts[WORKERS < 2], WORKERS[WORKERS < 2])
    assert found.mean == np.arange(SIZES[0]).mean()
    assert np.isnan(found.interval()["high"])
    assert found.p == 1.0
    (alone,) = simultaneous([found])
    assert np.isnan(alone["low"])
    real = jackknife_mean(np.random.default_rng(9).normal(size=len(WORKERS)), WORKERS)
    beside = simultaneous([found, real])
    assert np.isnan(beside[0]["low"])
    assert beside[1] == pytest.approx(simultaneous([real])[0])


@pytest.mark.parametrize(
    ("between", "studies"),
    [(0.0, 300), pytest.param(0.0, 2_000, marks=pytest.mark.slow), pytest.param(0.05, 2_000, marks=pytest.mark.slow)],
)
def test_intervals_cover(between: float, studies: int) -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for _ in range(studies):
        mean = 0.03 + between**0.5 * generator.normal(size=len(SIZES))
        interval = mean_interval(0.5 * generator.normal(size=len(WORKERS)) + mean[WORKERS], WORKERS)
        covered += interval["low"] <= 0.03 <= interval["high"]
    # Of 300 studies, two standard errors are 2.5 %.
    assert covered / studies > (0.94 if studies > 1_000 else 0.92)


def test_effective_workers() -> None:
    assert effective_workers(np.repeat([3, 1, 2], 4)) == pytest.approx(3)
    assert effective_workers(np.array([0] * 9 + [1])) == pytest.approx(100 / 82)


def test_one_difference_pays_for_no_other() -> None:
    values = np.random.default_rng(5).normal(0.1, 1, len(WORKERS))
    one = jackknife_mean(values, WORKERS)
    (alone,) = simultaneous([one])
    both = simultaneous([one, one])
    assert alone["low"] == pytest.approx(one.interval()["low"], abs=0.005)
    assert alone["p"] == pytest.approx(one.p, abs=0.01)
    for adjusted in both:
        assert adjusted == pytest.approx(alone)


def test_independent_differences_cost_what_sidak_says() -> None:
    generator = np.random.default_rng(6)
    family = [jackknife_mean(generator.normal(0.1, 1, 400), np.arange(400)) for _ in range(10)]
    for one, adjusted in zip(family, simultaneous(family), strict=True):
        assert adjusted["p"] == pytest.approx(1 - (1 - one.p) ** 10, abs=0.02)
        sidak = one.interval(0.95 ** (1 / 10))
        assert adjusted["low"] == pytest.approx(sidak["low"], abs=0.006)


@pytest.mark.slow
def test_intervals_cover_all_at_once() -> None:
    """Eight differences on the same workers that share three quarters of their noise, none of them real."""
    generator = np.random.default_rng(7)
    held = 0
    for _ in range(600):
        shared, own = generator.normal(size=(1, len(WORKERS))), generator.normal(size=(8, len(WORKERS)))
        family = [jackknife_mean(values, WORKERS) for values in 0.75**0.5 * shared + 0.5 * own]
        held += all(one["low"] <= 0 <= one["high"] for one in simultaneous(family))
    assert held / 600 > 0.93


def test_the_detectable_difference_is_found_in_four_of_five_studies() -> None:
    generator = np.random.default_rng(8)
    pilots = [jackknife_mean(generator.normal(size=900), np.arange(900) % 30) for _ in range(30)]
    true = np.mean([detectable(pilot) for pilot in pilots])
    found = [jackknife_mean(generator.normal(true, 1, 900), np.arange(900) % 30).p < 0.05 for _ in range(300)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.1)


def workers_of(rng: np.random.Generator) -> np.ndarray:
    return np.repeat(np.arange(12), rng.integers(1, 20, 12))


def test_a_mean_is_a_function_of_two_sums() -> None:
    rng = np.random.default_rng(0)
    workers = workers_of(rng)
    values = rng.normal(size=len(workers)) + workers % 3
    parts = np.column_stack([np.ones(len(values)), values])
    ours = jackknife_sums(lambda sums: sums[..., 1] / sums[..., 0], parts, workers)
    mean = jackknife_mean(values, workers)
    assert (ours.mean, ours.df) == pytest.approx((mean.mean, mean.df))
    assert ours.moves == pytest.approx(mean.moves)


def test_a_correlation_without_each_worker_by_a_loop() -> None:
    rng = np.random.default_rng(1)
    workers = workers_of(rng)
    x, y = rng.normal(size=(2, len(workers)))

    def slope(sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]

    ours = jackknife_sums(slope, np.column_stack([x * y, x * x]), workers)
    without = [(x * y)[workers != one].sum() / (x * x)[workers != one].sum() for one in range(12)]
    assert ours.mean == pytest.approx((x * y).sum() / (x * x).sum())
    assert ours.standard_error == pytest.approx(np.sqrt(11 / 12 * ((np.array(without) - ours.mean) ** 2).sum()))


def test_moments_of_the_squares_of_residuals_are_those_of_draws() -> None:
    rng = np.random.default_rng(2)
    workers = workers_of(rng)
    sizes = np.bincount(workers)
    for weights in (left_out(sizes), 1 / sizes):
        mean, df = residual_form(weights, sizes, 0.5, 0.2)
        draws = np.empty(20_000)
        for i in range(len(draws)):
            values = np.sqrt(0.2) * rng.standard_normal(12)[workers] + np.sqrt(0.5) * rng.standard_normal(len(workers))
            draws[i] = weights @ (np.bincount(workers, values) - sizes * values.mean()) ** 2
        assert mean == pytest.approx(draws.mean(), rel=0.02)
        assert df == pytest.approx(2 * draws.mean() ** 2 / draws.var(), rel=0.06)
    both = residual_form(1 / sizes, sizes, 0.5, np.array([[0.0], [0.2]]))
    assert both[0] == pytest.approx([0.5 * 11, residual_form(1 / sizes, sizes, 0.5, 0.2)[0]])


def test_components_of_equal_workers_by_hand() -> None:
    values, workers = np.array([1.0, 3.0, 6.0, 8.0]), np.array([0, 0, 1, 1])
    assert anova_size(np.array([2, 2])) == 2
    assert components(values, workers) == pytest.approx((2.0, (25.0 - 2.0) / 2))
    assert degrees_of_freedom(values, workers) == pytest.approx(1)


def test_labels_and_their_intervals_need_no_figures() -> None:
    code = """
import importlib, sys
for module in ("statistics", "preferences.labels", "preferences.load", "align.stages.text_reward"):
    importlib.import_module(f"ifllm_hub.{module}")
    assert "matplotlib" not in sys.modules, module
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_logistic_regression_against_statsmodels() -> None:
    from statsmodels.api import Logit

    generator = np.random.default_rng(2)
    x = generator.normal(size=(400, 2))
    y = (generator.random(400) < 1 / (1 + np.exp(-x @ [0.8, -0.4]))).astype(float)
    found, influence = logistic(x, y)
    expected = Logit(y, x).fit(disp=False)
    assert found == pytest.approx(expected.params, abs=2e-3)  # the penalty is small, not nothing
    # Without a row, the coefficients lose about what it adds.
    without = logistic(x[1:], y[1:])[0]
    assert found - without == pytest.approx(influence[0], rel=0.1)
    assert influence.sum(axis=0) == pytest.approx(0.1 * np.linalg.inv(-Logit(y, x).hessian(found)) @ found, rel=1e-2)
