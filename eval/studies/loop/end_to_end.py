"""The loop, end to end: simulated readers, a collector, `ifllm align`, an experiment, and its report beside the truth.

python -m eval.studies.loop.end_to_end --out docs/results/loop.md

All between the readers and the report is real: a collector runs, answers, batches and ratings are sent to it over HTTP,
and datasets, checkpoints and the report come from the commands that a product team types. What was made is kept in the
folder `--work`; a second run takes it from there. Remove it after a change to the simulator or to this study.
"""

import argparse
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eval.studies.loop.coverage import Coverage, Design, coverage
from eval.studies.loop.page import Truth, page
from eval.studies.loop.rounds import collect_pairs, run_experiment
from eval.studies.loop.site import collecting, ifllm
from eval.studies.loop.writer import answered, questions, write_first_model
from ifllm_hub.collect.experiment.page import COMPARISON_FILE
from ifllm_hub.files import make_folder, read_json, write_atomically

# Each arm's share of people, and what its model was tuned on; the first, the control, was not tuned.
CONTROL = "first"
WEIGHTS = {CONTROL: 0.4, "preferences": 0.3, "reading": 0.3}
SOURCES = {"preferences": "explicit", "reading": "shipped_forest"}
RECIPE = Path(__file__).with_name("dpo.yaml")


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        texts, passes, width: see `write_first_model`.
        raters, pairs: people of the first round, and how many questions with two answers each of them asks.
        readers, asked: people of the experiment, and how many questions each of them asks.
        pool: answers of each model by which its true mean rating is known.
        experiments: simulated for each design, for the coverage of the intervals.
    """

    texts: int = 4_000
    passes: int = 2
    width: int = 96
    raters: int = 60
    pairs: int = 6
    readers: int = 120
    asked: int = 5
    pool: int = 500
    experiments: int = 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="The page to write.")
    parser.add_argument("--work", type=Path, default=Path("runs/loop"), help="Folder of all that is made.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=8766, help="Of the collector.")
    chosen = parser.parse_args()
    write_atomically(chosen.out, loop(chosen.work, Size(), chosen.seed, chosen.port))


def loop(work: Path, size: Size, seed: int, port: int) -> str:
    """Do whatever is not done yet, and return the page."""
    make_folder(work)
    models = {arm: work / "models" / arm for arm in WEIGHTS}
    collected, pairs, rated, report = (work / name for name in ("collected", "pairs", "rated", "report"))

    def export(out: Path) -> None:
        run("collect", "export", "--folder", collected, "--out", out)

    def first_round(out: Path) -> None:
        with collecting(collected, port) as site:
            collect_pairs(site, models[CONTROL], size.raters, size.pairs, seed)
        export(out)

    def second_round(out: Path) -> None:
        with collecting(collected, port) as site:
            run_experiment(site, models, WEIGHTS, size.readers, size.asked, seed)
        export(out)

    def align(source: str, out: Path) -> None:
        start = ("--recipe", RECIPE, "--policy", models[CONTROL])
        run("align", *start, "--dataset", pairs, "--label-source", source, "--out", out)

    once(models[CONTROL], lambda: write_first_model(models[CONTROL], size.texts, size.passes, size.width, seed))
    once(pairs, lambda: first_round(pairs))
    for arm, source in SOURCES.items():
        once(models[arm] / "results.json", lambda source=source, arm=arm: align(source, models[arm]))  # type: ignore[misc]
    once(rated, lambda: second_round(rated))
    run("collect", "compare", rated, *(word for arm in WEIGHTS for word in ("--arm", arm)), "--out", report)
    truths = truth_of(models, pairs, size.pool, seed)
    covered = repeated(truths, size.experiments, seed)
    return page(read_json(report / COMPARISON_FILE), truths, covered, SOURCES)


def once(result: Path, make: Callable[[], None]) -> None:
    """Make something unless it is there."""
    if not result.exists():
        make()


def run(*words: str | Path) -> None:
    subprocess.run(ifllm(*words), check=True)


def truth_of(models: dict[str, Path], pairs: Path, pool: int, seed: int) -> dict[str, Truth]:
    """What is true of each arm's model, by answers to questions that nobody was asked before."""
    asked = questions(pool, seed + 4)
    return {arm: Truth.of(answered(model, asked, seed), pairs, SOURCES.get(arm)) for arm, model in models.items()}


def repeated(truths: dict[str, Truth], experiments: int, seed: int) -> dict[tuple[str, Design], Coverage]:
    """Experiments on the control and each arm, the control itself included."""
    control = truths[CONTROL].utilities
    designs = (Design(60, 0.5), Design(120, 0.5), Design(120, 0.2))
    return {
        (arm, design): coverage(control, truth.utilities, design, experiments, seed)
        for arm, truth in truths.items()
        for design in designs
    }


if __name__ == "__main__":
    main()
