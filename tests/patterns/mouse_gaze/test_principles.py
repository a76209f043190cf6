"""The principles: a known interaction is found, no interaction is not, and the verdict follows its rule."""

import numpy as np
import pytest

from ifllm_hub.patterns.mouse_gaze.principles import (
    LEAST_EFFECT,
    _principle,
    interaction_fits,
    permutation_p,
    principles,
)
from ifllm_hub.statistics import Jackknife
from tests.patterns.walks import odd_ones, walks

SIZES = (60, 40, 30, 25, 20, *[12] * 10)


def _study(seed: int, mouse: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pairs whose preference follows the mouse, the more (by `mouse` a doubling) the longer they are."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(len(SIZES)), SIZES)
    read = rng.normal(size=(len(codes), 3))
    size = rng.normal(size=len(codes)) + rng.normal(size=len(SIZES))[codes] / 2
    size -= size.mean()
    odds = read[:, 0] * (0.3 + mouse * size)
    return read, size, (rng.random(len(codes)) < 1 / (1 + np.exp(-odds))).astype(float), codes


def test_a_known_interaction_is_in_its_interval() -> None:
    covered = 0
    for seed in range(20):
        fits = interaction_fits(*_study(seed, 0.8))
        ends = fits["mouse"].interval()
        covered += ends["low"] <= 0.8 <= ends["high"]
        assert fits["both"].mean == pytest.approx(fits["mouse"].mean - fits["gaze"].mean)
    assert covered >= 17


def test_permutation_finds_a_strong_interaction_and_is_even_without_one() -> None:
    assert permutation_p(*_study(0, 1.5), draws=199)["mouse"] <= 0.02
    p = [permutation_p(*_study(seed, 0.0), draws=99)["mouse"] for seed in range(60)]
    assert 0.35 < np.mean(p) < 0.65
    assert np.mean(np.array(p) <= 0.05) <= 0.15


@pytest.mark.parametrize(
    ("mean", "half", "sign", "verdict"),
    [
        (0.5, 0.4, 1.0, "supported"),
        (-0.5, 0.4, -1.0, "supported"),
        (-0.5, 0.4, 1.0, "not supported"),
        (0.0, 0.08, 1.0, "not supported"),
        (0.1, 0.3, 1.0, "undecided"),
    ],
)
def test_the_verdict_follows_its_rule(mean: float, half: float, sign: float, verdict: str) -> None:
    moves = np.full(100, half / 1.98 / 10)
    one = _principle("mouse", Jackknife(mean, moves, 99.0), sign, 0.5, 300, 100)
    assert one.verdict == verdict
    assert one.low < sign * mean == one.interaction < one.high
    assert one.workers_needed == pytest.approx(100 * (one.detectable / LEAST_EFFECT) ** 2, abs=1)


def test_a_dataset_has_verdicts_and_what_lacks_something_has_none() -> None:
    found = principles(walks())
    assert found is not None
    assert (found.pairs, found.workers, len(found.principles), len(found.effects)) == (18, 6, 3, 5)
    assert {name for name, readings in odd_ones().items() if principles(readings)} == {"never both"}
