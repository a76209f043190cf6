# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[eval]"]
# ///
r"""Compare aligned models with their own SFT models, by a judge's judgments, like `ifllm compare`.

From a folder of judgments that eval/judge.py wrote:

    python eval/compare.py runs/eval/judgments --out runs/eval/comparison

From several files, with more bootstrap draws, and then the page with the table and single judgments:

    python eval/compare.py forest.parquet explicit.parquet --out runs/eval/comparison --draws 5000
    python eval/report.py runs/eval
"""

import argparse
import sys
from pathlib import Path

from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.evaluation.comparison.compare import PAGE_FILE, run_comparison
from ifllm_hub.evaluation.comparison.statistics import BOOTSTRAPS, SEED
from ifllm_hub.terminal import given_words, say


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("judgments", type=Path, nargs="+", help="Parquet files, or folders of them")
    parser.add_argument("--out", type=Path, required=True, help="folder of the comparison")
    parser.add_argument("--draws", type=int, default=BOOTSTRAPS, help="draws of the bootstrap")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the bootstrap")

    def compare() -> None:
        arguments = parser.parse_args(given_words())
        run_comparison(arguments.judgments, arguments.out, arguments.draws, arguments.seed)
        say(f"comparison: {arguments.out / PAGE_FILE}")

    return exit_status(compare)


if __name__ == "__main__":
    sys.exit(main())
