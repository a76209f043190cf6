"""Many simulated experiments on the same models: how often the report's interval holds the truth.

In each, new people are assigned (`assign`), ask, get an answer from a pool of the arm's model, and rate it. Of these
experiments the pools are all answers that there are, so that the true difference is known exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from eval.studies.loop.readers import GENEROSITY_SD, expected_rating, ratings
from ifllm_hub.collect.experiment.assign import assign
from ifllm_hub.collect.experiment.compare import Sample
from ifllm_hub.statistics import Jackknife

_KEY = "of the simulated experiments"


@dataclass(frozen=True)
class Design:
    """Of an experiment with a control and one other arm.

    Attributes:
        share: of people who get the other arm.
        questions: of each person on average, at least 1.
    """

    people: int
    share: float
    questions: float = 6.0


@dataclass(frozen=True)
class Coverage:
    """Of many experiments.

    Attributes:
        truth: the true difference in the mean rating.
        held, rejected: shares of experiments whose interval of 95 % holds the truth, and whose p value is below 0.05.
        width: mean width of the intervals, points.
        number: of experiments.
    """

    truth: float
    held: float
    rejected: float
    width: float
    number: int


def coverage(control: np.ndarray, other: np.ndarray, design: Design, number: int, seed: int) -> Coverage:
    """Run experiments.

    Args:
        control, other: utilities of the answers that the two arms give.
        number: of experiments.
    """
    truth = float(expected_rating(other).mean() - expected_rating(control).mean())
    rng = np.random.default_rng([seed, 9])
    ends, p = [], []
    for name in range(number):
        found = _experiment(rng, {"control": control, "other": other}, design, f"experiment {seed}/{name}")
        ends.append(tuple(found.interval().values()))
        p.append(found.p)
    low, high = np.array(ends).T
    held = (low <= truth) & (truth <= high)
    rejected = np.array(p) < 0.05
    return Coverage(truth, float(held.mean()), float(rejected.mean()), float((high - low).mean()), number)


def _experiment(rng: np.random.Generator, pools: Mapping[str, np.ndarray], design: Design, name: str) -> Jackknife:
    weights = {"control": 1 - design.share, "other": design.share}
    assigned = [assign(f"person {number}", name, weights, _KEY) for number in range(design.people)]
    people = np.repeat(np.arange(design.people), 1 + rng.poisson(design.questions - 1, design.people))
    generosity = rng.normal(0, GENEROSITY_SD, design.people)[people]
    chances = np.array([propensity for _, propensity in assigned])[people]
    arms = np.array([arm for arm, _ in assigned])[people]
    samples = {}
    for arm, pool in pools.items():
        here = arms == arm
        said = ratings(rng, rng.choice(pool, int(here.sum())), generosity[here])
        samples[arm] = Sample(said.astype(float), 1 / chances[here], people[here])
    return samples["other"].less(samples["control"])
