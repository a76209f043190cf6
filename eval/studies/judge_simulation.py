"""Do the estimators find what is true? Simulated studies by judges with known favors for position and length.

python -m eval.studies.judge_simulation                                # 100 studies a judge, eight LLMs, 60 prompts
python -m eval.studies.judge_simulation --runs 1000 --prompts 300      # as large as the paper's

A study is eight LLMs on the same prompts, judged in both orders; the paper's estimate takes one order a prompt, the
baseline first in 44 % of them, as in its larger pass.
"""

import argparse
from dataclasses import replace

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from eval.studies.recovery import recovery
from eval.studies.simulated_judge import SimulatedJudge

FAIR = SimulatedJudge()
JUDGES = {
    "noise alone": FAIR,
    "favors the first answer by 1 point": replace(FAIR, position_bias=1.0),
    "favors the longer answer": replace(FAIR, length_bias=0.6),
    "favors both": replace(FAIR, position_bias=1.0, length_bias=0.6),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--prompts", type=int, default=60)
    arguments = parser.parse_args()
    console = Console(width=118)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for name, judge in JUDGES.items():
            task = progress.add_task(name, total=1.0)
            found = recovery(
                judge,
                arguments.runs,
                prompts=arguments.prompts,
                advance=lambda share, task=task: progress.update(task, completed=share),
            )
            table = Table("estimate", "truth", "mean estimate", "bias", "sd", "95 % intervals", title=name)
            for estimator, row in found.items():
                covered = "" if row.covered is None else f"{100 * row.covered:.0f} % hold it, width {row.width:.2f}"
                numbers = (f"{row.truth:.3f}", f"{row.mean:.3f}", f"{row.mean - row.truth:+.3f}", f"{row.sd:.3f}")
                table.add_row(estimator, *numbers, covered)
            console.print(table)
    console.print(f"{arguments.runs} studies a judge, 8 LLMs, {arguments.prompts} prompts, 300 draws of the bootstrap.")


if __name__ == "__main__":
    main()
