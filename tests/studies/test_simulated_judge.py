"""A judge with known faults: the estimators recover what is true, and the paper's single order does not."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from eval.studies.recovery import BASELINE_FIRST, BOTH_ORDERS, ONE_ORDER, STRICT, Recovery, recovery
from eval.studies.simulated_judge import SimulatedJudge, asked_once, simulated_judgments
from ifllm_hub.evaluation.comparison.differences import differences
from ifllm_hub.evaluation.tables import JUDGMENTS

RUNS = [30, pytest.param(100, marks=pytest.mark.slow)]
BIASED = SimulatedJudge(position_bias=1.0, length_bias=0.6)
POSITION = replace(BIASED, length_bias=0.0, failing=0.02)


@pytest.fixture(scope="module", params=RUNS)
def biased(request: pytest.FixtureRequest) -> dict[str, Recovery]:
    return recovery(BIASED, request.param, prompts=40, draws=100)


@pytest.mark.parametrize("estimator", ["difference at equal lengths", "length-controlled win rate"])
def test_under_both_biases_what_controls_length_recovers_the_truth(biased: dict[str, Recovery], estimator: str) -> None:
    found = biased[estimator]
    assert found.covered is not None
    assert found.covered >= 0.9
    assert abs(found.mean - found.truth) < 0.03


@pytest.mark.parametrize("runs", RUNS)
def test_without_a_length_bias_both_orders_recover_the_truth(runs: int) -> None:
    found = recovery(POSITION, runs, prompts=40, draws=100)
    for estimator in ("difference, both orders", "mean over LLMs", "win rate, both orders"):
        row = found[estimator]
        assert row.covered is not None
        assert row.covered >= 0.9
        assert abs(row.mean - row.truth) < 0.03
    once, paper = found[ONE_ORDER], found[BOTH_ORDERS]
    assert once.covered is not None
    assert paper.covered is not None
    assert once.covered < 0.75  # one order: the coin's surplus of one position, and no interval for it
    assert paper.covered < 0.9  # both orders, but pairs taken for independent
    assert found[STRICT].mean < found[STRICT].truth - 0.04  # a word in both orders pulls towards one half


def test_the_bias_of_one_order_is_the_surplus_of_a_position(biased: dict[str, Recovery]) -> None:
    """With the baseline first in 44 %, a favor of 1 point for the first answer adds 0.56 - 0.44 points."""
    surplus = BIASED.position_bias * (1 - 2 * BASELINE_FIRST)
    extra = biased[ONE_ORDER].mean - biased["difference, both orders"].mean
    assert extra == pytest.approx(surplus, abs=0.06)
    assert biased["difference, both orders"].mean > biased["difference at equal lengths"].mean + 0.05


@pytest.mark.slow
def test_larger_differences_between_llms_are_in_the_interval() -> None:
    """Here nearly all doubt is about the LLMs, of which there are only eight."""
    found = recovery(replace(POSITION, llm_sd=0.4, noise=0.3), 100, prompts=12, draws=150)["difference, both orders"]
    assert found.covered is not None
    assert found.covered >= 0.9


def test_judgments_have_the_contracts_columns_and_the_seed_decides() -> None:
    judge = replace(BIASED, failing=0.3)
    one, same, other = (simulated_judgments(judge, ["a", "b"], 20, seed) for seed in (0, 0, 1))
    assert dict(one.schema) == {
        name: type_ if not isinstance(type_, type) else type_() for name, type_ in JUDGMENTS.items()
    }
    assert one.equals(same)
    assert not one.equals(other)
    found = differences(one)
    assert found.statuses["malformed"] > 0
    assert found.pairs.height + found.set_aside.height == 40
    assert set(one["score_model"].drop_nulls()) <= {float(score) for score in range(1, 11)}


def test_asked_once_keeps_one_order_a_prompt_for_all_llms() -> None:
    once = asked_once(simulated_judgments(BIASED, ["a", "b", "c"], 200, 0), 0.44, 5)
    assert once.height == 600
    assert once.group_by("question_id").agg(pl.col("order").n_unique())["order"].to_list() == [1] * 200
    share = float(np.mean((once["order"] == "baseline_first").to_numpy()))
    assert share == pytest.approx(0.44, abs=0.1)
