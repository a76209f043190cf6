"""Intervals, and that computing one draws nothing."""

import subprocess
import sys

import numpy as np
import pytest

from ifllm_hub.statistics import mean_interval, wilson


def test_the_interval_of_a_share() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


def test_pairs_of_one_worker_count_as_one() -> None:
    values = np.repeat([0.0, 1.0] * 10, 5)
    alike = mean_interval(values, np.repeat(np.arange(20), 5))
    apart = mean_interval(values, np.arange(100))
    assert alike["high"] - alike["low"] > 1.8 * (apart["high"] - apart["low"])


@pytest.mark.parametrize("module", ["statistics", "preferences.labels", "preferences.load", "align.stages.text_reward"])
def test_labels_and_their_intervals_need_no_figures(module: str) -> None:
    code = f"import sys, ifllm_hub.statistics, ifllm_hub.{module}; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
