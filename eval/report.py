# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[eval]"]
# ///
r"""Write evaluation.html (the comparison, the judge's quality, single judgments to read), like `ifllm report`.

The folder holds judgments/ (eval/judge.py) and comparison/ (eval/compare.py):

    python eval/compare.py runs/eval/judgments --out runs/eval/comparison
    python eval/report.py runs/eval
"""

import argparse
import sys
from pathlib import Path

from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.report.evaluation import build_evaluation_page
from ifllm_hub.terminal import given_words, say


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="an evaluation folder")
    return exit_status(lambda: say(f"report: {build_evaluation_page(parser.parse_args(given_words()).folder)}"))


if __name__ == "__main__":
    sys.exit(main())
