"""Where flip probabilities matter: policies trained on labels whose noise is known, with and without being told of it.

python -m eval.studies.flip_probabilities runs/real/dataset runs/labels/real --out docs/results/flip_probabilities.md

The texts and their gradients are real (`ifllm compare-labels --method first_order` leaves them in its folder);
preferences are made up: a direction of the policy's weights says which answer is better, and labels are wrong as often
as they say.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from typing import Literal

import numpy as np

from ifllm_hub.align.first_order.comparison import hits
from ifllm_hub.align.first_order.descent import Labels, descend
from ifllm_hub.align.first_order.gram import gram, of_pairs
from ifllm_hub.align.first_order.sources import load_compared
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.schema import preferences_config
from ifllm_hub.files import write_atomically
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.reward.protocol.tables import with_interval
from ifllm_hub.statistics import Estimate, jackknife_mean

DRAWS = 40
# Smaller steps than those of a comparison: with equal weights, doubtful labels push many times as hard.
LENGTHS, SPEED = (1, 3, 10, 30, 100, 300, 1000), 0.3
Weighting = Literal["none", "inverse_variance"]
# How a trainer uses flip probabilities: told of them or not, and the weights of pairs.
TRAINERS: dict[str, tuple[bool, Weighting]] = {
    "not told (plain DPO)": (False, "none"),
    "`none`": (True, "none"),
    "`inverse_variance`": (True, "inverse_variance"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", help="a labeled dataset")
    parser.add_argument("labels", type=Path, help="a folder of `ifllm compare-labels --method first_order`")
    parser.add_argument("--out", type=Path, default=Path("runs/flip_probabilities.md"))
    options = parser.parse_args()
    compared = load_compared(options.dataset)
    flips = load_config(options.dataset, preferences_config("forest"))["flip_prob"].to_numpy()
    kernel = of_pairs(gram(sorted((options.labels / "gradients").glob("*.safetensors"))).adam)
    noises: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
        "half .05, half .45": lambda rng, n: np.where(rng.random(n) < 0.5, 0.05, 0.45),
        "half .2, half .45": lambda rng, n: np.where(rng.random(n) < 0.5, 0.2, 0.45),
        "half .3, half .42": lambda rng, n: np.where(rng.random(n) < 0.5, 0.3, 0.42),
        "those of the forest's labels": lambda rng, n: rng.choice(flips, n),
        "all .3": lambda rng, n: np.full(n, 0.3),
        "no noise": lambda rng, n: np.zeros(n),
    }
    found = {name: accuracies(kernel, compared.folds, noise) for name, noise in noises.items()}
    write_atomically(options.out, page(found, len(kernel), len(np.unique(compared.folds))))


def accuracies(
    kernel: np.ndarray, folds: np.ndarray, noise: Callable[[np.random.Generator, int], np.ndarray]
) -> dict[str, np.ndarray]:
    """(draws, lengths) of each trainer: in how many pairs of unseen workers its policy prefers the better answer."""
    rng = np.random.default_rng(0)
    n = len(kernel)
    # What is better: the sign of the margin after a step in a direction drawn from all pairs.
    truth = np.sign(kernel @ rng.standard_normal((n, DRAWS))).astype(np.int8)
    flips = np.stack([noise(rng, n) for _ in range(DRAWS)], axis=1)
    signs = np.where(rng.random((n, DRAWS)) < flips, -truth, truth)
    right: dict[str, np.ndarray] = {name: np.zeros((DRAWS, len(LENGTHS))) for name in TRAINERS}
    for fold in np.unique(folds):
        test = folds == fold
        for name, (told, weighting) in TRAINERS.items():
            labels = Labels(signs, flips if told else np.zeros_like(flips), weighting)
            margins = descend(kernel, ~test, labels, lengths=LENGTHS, speed=SPEED)
            right[name] += hits(margins[:, test], truth[test]).sum(axis=1).T / n
    return right


def best(right: np.ndarray) -> tuple[np.ndarray, int]:
    """(draws,) at the length that is best on average, and this length."""
    at = int(right.mean(axis=0).argmax())
    return right[:, at], LENGTHS[at]


def interval(values: np.ndarray) -> Estimate:
    """Mean over draws, with 95 % by Student's t, as each draw is a group of its own."""
    return jackknife_mean(values, np.arange(len(values))).estimate


def page(found: dict[str, dict[str, np.ndarray]], pairs: int, folds: int) -> str:
    names = list(TRAINERS)
    rows, differences = [], []
    for noise, right in found.items():
        each = {name: best(right[name]) for name in names}
        rows.append((noise, *(f"{with_interval(interval(values))}, {steps}" for values, steps in each.values())))
        told = interval(each[names[2]][0] - each[names[1]][0])
        plain = interval(each[names[2]][0] - each[names[0]][0])
        differences.append((noise, with_interval(told, "+.3f"), with_interval(plain, "+.3f")))
    intro = (
        f"Texts and gradients of the study's {pairs} rated pairs; {DRAWS} made-up preferences, each a direction of the "
        "policy's weights, with labels that are wrong as often as their flip probability says. Policies are trained to "
        f"the first order (Adam's geometry, at {SPEED:g} of the largest learning rate) on four of "
        f"{folds} folds of workers and judged by the truth on the fifth, each at its own best number of steps, which "
        "stands behind the accuracy. Intervals are 95 %, over draws."
    )
    command = next(line for line in (__doc__ or "").splitlines() if line.startswith("python"))
    return (
        "\n\n".join(
            (
                "# Where flip probabilities matter",
                fill(intro, 120),
                f"```sh\n{command}\n```",
                markdown_table(("flip probabilities", *names), rows),
                "The same draws, `inverse_variance` less the others:",
                markdown_table(("flip probabilities", "less `none`", "less not told"), differences),
            )
        )
        + "\n"
    )


if __name__ == "__main__":
    main()
