"""The sentences and colors of the report say what the numbers say."""

import re
from pathlib import Path

import pytest

from ifllm_hub.report import words
from ifllm_hub.report.heat import heat_level
from ifllm_hub.reward.protocol.candidates import FOREST, LONGER_ANSWER
from ifllm_hub.reward.protocol.folds import PROTOCOLS
from tests.report.made import results


@pytest.mark.parametrize(
    ("low", "high", "says", "never"),
    [
        (-0.02, 0.05, "which includes 0: this run does not show that behavior adds", "does not include"),
        (0.0, 0.05, "which includes 0", "does not include"),
        (0.01, 0.05, "which does not include 0: on this data, behavior adds to length", "which includes 0"),
        (-0.05, -0.01, "lies below 0: on this data, the forest is worse", "adds to length"),
    ],
)
def test_gain_is_claimed_only_if_its_interval_is_above_zero(low: float, high: float, says: str, never: str) -> None:
    gain = {"mean": (low + high) / 2, "low": 0.001, "high": 0.002}  # its own interval, which claims nothing
    row = {"model": FOREST.name, "protocol": "worker", "gain_over_longer_answer": gain}
    made = {"rows": [row | {"adjusted": {"accuracy": {"low": low, "high": high, "p": 0.01}}}]}
    sentence = words.gain_sentence(made)
    assert says in sentence
    assert never not in sentence


@pytest.mark.parametrize(
    ("means", "left", "says"),
    [
        ((0.50, 0.505, 0.47), 0.5, "falls to chance"),
        ((0.50, 0.505, 0.60), 0.5, "does NOT fall to chance with worker folds"),
        ((0.70, 0.53, 0.50), 0.5, "does NOT fall to chance with question, conversation folds"),
        # With 60 % left (or right), 58 % needs no information; 65 % does.
        ((0.58, 0.50, 0.50), 0.6, "falls to chance"),
        ((0.58, 0.50, 0.50), 0.4, "falls to chance"),
        ((0.65, 0.50, 0.50), 0.4, "does NOT fall to chance with question folds"),
        ((float("nan"), 0.5, 0.5), 0.5, "does NOT fall to chance with question folds"),
    ],
)
def test_permuted_labels_are_called_chance_only_if_they_are(means: tuple[float, ...], left: float, says: str) -> None:
    nulls = {protocol: {"mean": mean, "sd": 0.0} for protocol, mean in zip(PROTOCOLS, means, strict=True)}
    sentence = words.null_sentence({"pairs": 600, "seeds": 20, "left_preferred": left, "permuted_labels": nulls})
    assert f"the forest {says}" in sentence


def test_few_seeds_and_few_steps_are_named_as_such() -> None:
    assert "over 1 seed; a claim needs at least 20" in words.seeds_sentence({"seeds": 1})
    assert "claim" not in words.seeds_sentence({"seeds": 20})
    few = words.extent_sentence(results())
    assert "6 of the 40 pairs of one epoch (15.0\u00a0%), in 3 steps" in few
    assert "says nothing about whether the policy got better" in few
    whole = words.extent_sentence(results(steps=40, rows_seen=80))
    assert whole == "The policy was trained on 80 pairs in 40 steps; one epoch is 40 pairs."
    assert "no improvement of the answers is claimed" in words.limit_sentence(results())


def test_a_simpler_model_that_is_as_accurate_is_named() -> None:
    rows = [
        {"model": name, "protocol": "worker", "accuracy": {"mean": mean, "low": 0.5, "high": 0.7}}
        for name, mean in ((FOREST.name, 0.62), (LONGER_ANSWER.name, 0.60), ("logistic", 0.62))
    ]
    assert "“logistic” is at least as accurate" in words.simpler_sentence({"rows": rows})
    assert "as accurate:" not in words.simpler_sentence({"rows": rows[:2]})


def test_heat_levels_are_their_legend() -> None:
    assert [heat_level(ms) for ms in (0, 1, 249, 250, 999, 1_000, 3_999, 4_000, 10**6)] == [0, 1, 1, 2, 3, 4, 5, 6, 6]


def test_text_stays_readable_on_every_heat_color() -> None:
    css = (Path(words.__file__).parent / "pages" / "report.css").read_text()
    colors = re.findall(r"h\d \{ background: (#\w+); color: (#\w+); \}", css)
    assert len(colors) == 13
    for background, ink in colors:
        light, dark = sorted((luminance(background), luminance(ink)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (background, ink)


def luminance(color: str) -> float:
    """Relative luminance of the WCAG."""
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
