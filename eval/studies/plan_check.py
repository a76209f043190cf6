"""Whether studies of the size that `ifllm plan` names have the power it promises.

ifllm simulate runs/simulated --workers 200 --questions 2400
ifllm build runs/simulated runs/simulated-dataset
ifllm label runs/simulated-dataset
python -m eval.studies.plan_check runs/simulated-dataset --out docs/results/plan.md
"""

import argparse
import math
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from textwrap import fill

import numpy as np

from ifllm_hub.files import write_atomically
from ifllm_hub.pages.markdown import markdown_table
from ifllm_hub.preferences.plan import STUDY, Pilot, gains_of, pilot_of, plan_study
from ifllm_hub.statistics import components, jackknife_mean, wilson

STUDIES = 1_000
GAINS, DEVIATIONS, POWERS = (0.03, 0.06), (0.0, 0.02, 0.05, 0.1), (0.5, 0.8, 0.9)
HEAD = (">true gain", ">SD between readers", ">readers", ">rated pairs", ">promised", ">found [95 % CI]")
# The values of a study's pairs, and whose they are.
Draw = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("dataset", help="a labeled dataset of a simulated release with many workers")
    parser.add_argument("--out", type=Path, default=Path("runs/plan.md"))
    options = parser.parse_args()
    write_atomically(options.out, "\n".join(page(options.dataset)) + "\n")


def page(dataset: str) -> Iterator[str]:
    yield "# Do planned studies keep their promise?\n"
    yield "Written by `python -m eval.studies.plan_check DATASET --out FILE`; do not edit.\n"
    yield paragraph(
        f"{STUDIES:,} studies a row, of the size that `ifllm plan` names for the gain and the power, each tested as a "
        "gain always is here: the mean over pairs, its standard error by jackknife over workers, Student's t with the "
        "degrees of freedom of readers of unequal size, two-sided at 5 %. Where nothing is gained, what is found is a "
        "false alarm."
    )
    yield "## Readers like those of the study\n"
    yield paragraph(
        f"Pairs gain 1, 0 or -1 with the variance of the study, {STUDY.within}, for each reader; readers differ by a "
        "normal effect; how many pairs a reader rates is drawn from the study's "
        f"{len(STUDY.sizes)} readers ({min(STUDY.sizes)} to {max(STUDY.sizes)} pairs)."
    )
    known = ((gain, sd, power) for gain, sd, power in product(GAINS, DEVIATIONS, POWERS))
    yield markdown_table(HEAD, [row(gain, sd, power, known_truth(gain, sd)) for gain, sd, power in known])
    yield "\n" + markdown_table(
        (">SD between readers", ">readers", ">false alarms [95 % CI]"),
        [(f"{sd:g}", "60", share(known_truth(0.0, sd), 60)) for sd in DEVIATIONS],
    )
    gain, readers = gains_of(dataset, "forest")
    pilot, true = pilot_of(dataset), float(gain.mean())
    within, between = components(gain, readers)
    count = len(pilot.sizes)
    yield "\n## Readers of the simulator\n"
    yield paragraph(
        f"The forest against the longer answer on {len(gain):,} rated pairs of {count} simulated readers (`ifllm "
        "simulate`, `build`, `label`), who are also the pilot. A study is some of these readers, with replacement, and "
        f"all their pairs; the true gain is that of all, {true:+.4f}. The variance within readers is {within:.4f}, and "
        f"that between them comes out at {between:+.4f}; the plan takes one below 0 for 0, and promises too little."
    )
    rows = [row(true, math.sqrt(pilot.between), power, drawn(gain, readers), pilot) for power in POWERS]
    yield markdown_table(HEAD, rows)


def row(gain: float, sd: float, power: float, draw: Draw, pilot: Pilot = STUDY) -> tuple[str, ...]:
    plan = plan_study(pilot, gain, power, sd**2)
    cells = f"{gain:.3g}", f"{sd:.2f}", f"{plan.readers:,}", f"{plan.pairs:,.0f}", f"{plan.power:.3f}"
    return *cells, share(draw, plan.readers)


def share(draw: Draw, readers: int) -> str:
    """Of simulated studies, how many find a gain or a loss."""
    rng = np.random.default_rng(0)
    found = sum(jackknife_mean(*draw(readers, rng)).p < 0.05 for _ in range(STUDIES))
    low, high = wilson(found, STUDIES)
    return f"{found / STUDIES:.3f} [{low:.3f}, {high:.3f}]"


def known_truth(gain: float, sd: float) -> Draw:
    def draw(readers: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        whose = np.repeat(np.arange(readers), rng.choice(STUDY.sizes, readers))
        mean = (gain + sd * rng.standard_normal(readers))[whose]
        moved = np.clip(STUDY.within + mean**2, np.abs(mean), 1)  # the pairs that gain or lose
        u = rng.random(len(whose))
        return np.where(u < (moved + mean) / 2, 1.0, np.where(u < moved, -1.0, 0.0)), whose

    return draw


def drawn(gain: np.ndarray, readers: np.ndarray) -> Draw:
    _, start = np.unique(readers, return_inverse=True)
    theirs = [np.flatnonzero(start == reader) for reader in range(start.max() + 1)]

    def draw(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        chosen = [theirs[reader] for reader in rng.integers(len(theirs), size=count)]
        return gain[np.concatenate(chosen)], np.repeat(np.arange(count), [len(rows) for rows in chosen])

    return draw


def paragraph(text: str) -> str:
    return fill(text, 120) + "\n"


if __name__ == "__main__":
    main()
