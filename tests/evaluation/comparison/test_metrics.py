"""The `evaluate` modules load from their folders without a network and equal plain computations."""

import ast
import math
import re
import statistics as plain
from pathlib import Path
from typing import Any

import evaluate
import numpy as np
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison import measures

METRICS = Path(__file__).parents[3] / "eval" / "metrics"
NAMES = ["position_consistency", "preference_accuracy", "probability_calibration", "relative_quality"]


def compute(name: str, **inputs: Any) -> dict[str, Any]:
    return evaluate.load(str(METRICS / name)).compute(**inputs)


def test_every_folder_is_here() -> None:
    assert sorted(path.name for path in METRICS.iterdir() if (path / "README.md").exists()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_the_card_is_true(name: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (METRICS / name / "README.md").read_text(), re.DOTALL)
    *lines, last, said = code.replace("eval/metrics", str(METRICS)).strip().splitlines()
    namespace: dict[str, Any] = {}
    exec("\n".join(lines), namespace)
    assert eval(last, namespace) == pytest.approx(ast.literal_eval(said.removeprefix("# ")))


@pytest.fixture
def probabilities() -> tuple[list[float], list[int]]:
    rng = np.random.default_rng(0)
    p = [*rng.uniform(0, 1, 40).tolist(), 0.5, 0.5, 0.0, 1.0]
    return p, [int(value) for value in rng.integers(0, 2, len(p))]


def test_preference_accuracy(probabilities: tuple[list[float], list[int]]) -> None:
    p, y = probabilities
    points = [0.5 if value == 0.5 else float((value > 0.5) == bool(label)) for value, label in zip(p, y, strict=True)]
    found = compute("preference_accuracy", predictions=p, references=y)
    assert found == {"accuracy": pytest.approx(plain.fmean(points)), "undecided": 2 / 44, "n": 44}


def test_probability_calibration(probabilities: tuple[list[float], list[int]]) -> None:
    p, y = probabilities
    bins: dict[int, list[tuple[float, float]]] = {}
    for value, label in zip(p, y, strict=True):
        confidence = max(value, 1 - value)
        hit = 0.5 if value == 0.5 else float((value > 0.5) == bool(label))
        bins.setdefault(min(int((confidence - 0.5) * 20), 9), []).append((confidence, hit))
    ece = sum(
        len(bin_) / len(p) * abs(plain.fmean(c for c, _ in bin_) - plain.fmean(h for _, h in bin_))
        for bin_ in bins.values()
    )
    found = compute("probability_calibration", predictions=p, references=y)
    assert found["ece"] == pytest.approx(ece)
    assert found["brier"] == pytest.approx(plain.fmean((a - b) ** 2 for a, b in zip(p, y, strict=True)))
    assert len(found["bins"]) == len(bins)
    swapped = compute("probability_calibration", predictions=[1 - a for a in p], references=[1 - b for b in y])
    assert swapped["brier"] == pytest.approx(found["brier"])


def test_relative_quality() -> None:
    rng = np.random.default_rng(1)
    model, baseline = rng.integers(1, 11, 30).astype(float).tolist(), rng.integers(1, 11, 30).astype(float).tolist()
    llms = ["a"] * 20 + ["b"] * 10
    differences = [a - b for a, b in zip(model, baseline, strict=True)]
    found = compute("relative_quality", predictions=model, references=baseline, llms=llms)
    assert found == {
        "relative_quality": pytest.approx(plain.fmean(differences)),
        "standard_error": pytest.approx(plain.pstdev(differences) / math.sqrt(29)),
        "mean_over_llms": pytest.approx((plain.fmean(differences[:20]) + plain.fmean(differences[20:])) / 2),
        "n": 30,
    }
    alone = compute("relative_quality", predictions=model, references=baseline)
    assert alone["mean_over_llms"] == alone["relative_quality"] == pytest.approx(found["relative_quality"])


def test_position_consistency() -> None:
    verdicts = [(a, b) for a in measures.VERDICTS for b in measures.VERDICTS] + [("model", "baseline")]
    one, other = [a for a, _ in verdicts], [b for _, b in verdicts]
    found = compute("position_consistency", predictions=one, references=other)
    assert found == {"consistency": 0.3, "first_in_both": 0.2, "second_in_both": 0.1, "n": 10}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measures.preference_accuracy([0.4], [1, 0]), "1 and 2 entries"),
        (lambda: measures.preference_accuracy([], []), "empty"),
        (lambda: measures.preference_accuracy([1.2], [1]), "not in"),
        (lambda: measures.probability_calibration([float("nan")], [1]), "not in"),
        (lambda: measures.probability_calibration([0.4], [2]), "neither 0 nor 1"),
        (lambda: measures.relative_quality([float("nan")], [1.0]), "not a finite number"),
        (lambda: measures.relative_quality([1.0, 2.0], [1.0, 2.0], ["a"]), "2 and 2 and 1 entries"),
        (lambda: measures.position_consistency(["A"], ["model"]), "'A' is not a verdict"),
    ],
)
def test_bad_input_is_refused(call: Any, message: str) -> None:
    with pytest.raises(IfllmError, match=message):
        call()
