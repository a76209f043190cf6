"""What the intervals cover: simulated studies with the sizes of the dataset's workers and a known truth.

python -m eval.studies.interval_coverage DATASET > docs/results/interval_coverage.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ifllm_hub.reward.protocol.pairs import labeled, load_pairs
from ifllm_hub.statistics import effective_workers, jackknife_mean, simultaneous

STUDIES = 1_000
VARIANCES = (0.0, 0.02, 0.05, 0.10)
ACCURACY, GAIN, MODELS = 0.63, 0.03, 10
# How often a better and a worse model disagree on a pair, and how alike the differences of two models are.
DISAGREEMENT, ALIKE = 0.3, 0.75
BOOTSTRAPS = 1_000


def main(dataset: Path) -> None:
    codes = np.unique(labeled(load_pairs(dataset)).groups("worker_id"), return_inverse=True)[1]
    lines = [
        "# What the intervals cover",
        "",
        "Written by `python -m eval.studies.interval_coverage DATASET`; do not edit.",
        "",
        f"{STUDIES:,} simulated studies a row, each with the {codes.max() + 1} workers and {len(codes)} pairs of the",
        f"dataset, which tell as much as {effective_workers(codes):.1f} workers with equal numbers of pairs. Workers",
        "differ by the variance given. An interval of 95 % should hold the truth in 95 % of the studies; so many",
        f"studies show that to within {196 * np.sqrt(0.95 * 0.05 / STUDIES):.1f} points. Length: mean width, in the",
        "unit of the estimate. The jackknife with Student's t is what the package prints; the percentile bootstrap",
        "over workers is what it printed before, and what most papers print. Predictions are taken as given: what",
        "differs between fits is no part of this, nor of any interval of the package.",
        "",
        "| estimate | variance between workers | jackknife t covers | length | bootstrap covers | length |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, truth, draw in (("accuracy", ACCURACY, accuracies), ("gain of accuracy", GAIN, gains)):
        lines += [
            f"| {name} | {variance:.2f} | {' | '.join(covered(codes, truth, variance, draw))} |"
            for variance in VARIANCES
        ]
    lines += [
        "",
        f"Intervals of {MODELS} differences at once, none of which is real, that share {ALIKE:.0%} of their variance:",
        "all of them should hold the truth together in 95 % of the studies.",
        "",
        "| variance between workers | adjusted intervals hold together | each by itself would |",
        "|---:|---:|---:|",
    ]
    lines += [f"| {variance:.2f} | {' | '.join(held_together(codes, variance))} |" for variance in VARIANCES]
    sys.stdout.write("\n".join(lines) + "\n")


def accuracies(codes: np.ndarray, variance: float, generator: np.random.Generator) -> np.ndarray:
    """(n,) hits; a worker's accuracy has a beta distribution."""
    size = ACCURACY * (1 - ACCURACY) / variance - 1 if variance else np.inf
    workers = codes.max() + 1
    mean = generator.beta(ACCURACY * size, (1 - ACCURACY) * size, workers) if variance else np.full(workers, ACCURACY)
    return (generator.random(len(codes)) < mean[codes]).astype(float)


def gains(codes: np.ndarray, variance: float, generator: np.random.Generator) -> np.ndarray:
    """(n,) hits of one model less those of another; a worker's gain has a uniform distribution."""
    mean = GAIN + np.sqrt(3 * variance) * generator.uniform(-1, 1, codes.max() + 1)
    differ = np.maximum(DISAGREEMENT, np.abs(mean))[codes]
    drawn = generator.random(len(codes))
    better = (differ + mean[codes]) / 2
    return (drawn < better).astype(float) - ((drawn >= better) & (drawn < differ))


def covered(codes: np.ndarray, truth: float, variance: float, draw: object) -> Iterator[str]:
    generator = np.random.default_rng(0)
    count = codes.max() + 1
    drawn = generator.multinomial(count, np.full(count, 1 / count), BOOTSTRAPS)
    held, length = np.zeros(2), np.zeros(2)
    for _ in range(STUDIES):
        values = draw(codes, variance, generator)
        one = jackknife_mean(values, codes).interval()
        means = drawn @ np.bincount(codes, values) / (drawn @ np.bincount(codes))
        both = np.array([[one["low"], one["high"]], np.percentile(means, [2.5, 97.5])])
        held += (both[:, 0] <= truth) & (truth <= both[:, 1])
        length += both[:, 1] - both[:, 0]
    for hits, wide in zip(held, length, strict=True):
        yield from (f"{100 * hits / STUDIES:.1f} %", f"{wide / STUDIES:.3f}")


def held_together(codes: np.ndarray, variance: float) -> Iterator[str]:
    generator = np.random.default_rng(1)
    held = np.zeros(2)
    for _ in range(STUDIES):
        noise = ALIKE**0.5 * generator.normal(size=len(codes))
        own = (1 - ALIKE) ** 0.5 * generator.normal(size=(MODELS, len(codes)))
        workers = np.sqrt(variance) * generator.normal(size=codes.max() + 1)
        family = [jackknife_mean(DISAGREEMENT**0.5 * (noise + one) + workers[codes], codes) for one in own]
        for i, intervals in enumerate((simultaneous(family), [one.interval() for one in family])):
            held[i] += all(one["low"] <= 0 <= one["high"] for one in intervals)
    yield from (f"{100 * hits / STUDIES:.1f} %" for hits in held)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
