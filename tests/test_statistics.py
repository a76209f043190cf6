"""Intervals, and that computing one draws nothing."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from ifllm_hub.statistics import (
    degrees_of_freedom,
    detectable,
    effective_workers,
    jackknife_mean,
    mean_interval,
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


def test_labels_and_their_intervals_need_no_figures() -> None:
    code = """
import importlib, sys
for module in ("statistics", "preferences.labels", "preferences.load", "align.stages.text_reward"):
    importlib.import_module(f"ifllm_hub.{module}")
    assert "matplotlib" not in sys.modules, module
"""
    subprocess.run([sys.executable, "-c", code], check=True)
