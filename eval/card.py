# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[eval]"]
# ///
r"""Write what a judge found into the card of an aligned checkpoint, like `ifllm add-results`.

Only into the folder:

    python eval/card.py runs/eval/comparison runs/qwen3-1.7b-forest

With the dataset's id, so that the dataset's page can list the results, and pushed to the checkpoint's repo:

    python eval/card.py runs/eval/comparison runs/qwen3-1.7b-forest --dataset ORG/ifllm --push ORG/qwen3-1.7b-forest
"""

import argparse
import sys
from pathlib import Path

from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.evaluation.comparison.checkpoint_card import CARD_FILE, add_results, push_results
from ifllm_hub.evaluation.comparison.document import read_comparison
from ifllm_hub.terminal import given_words, say


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("comparison", type=Path, help="folder that eval/compare.py wrote")
    parser.add_argument("checkpoint", type=Path, help="folder of the aligned model")
    parser.add_argument("--dataset", help="Hub id of the dataset the prompts are from")
    parser.add_argument("--revision", help="commit of that dataset")
    parser.add_argument("--llm", help="which cell, if several models have that name")
    parser.add_argument("--label-source", "--label_source", help="which cell, if several models have that name")
    parser.add_argument("--push", metavar="REPO", help="Hub id of the checkpoint")

    def write() -> None:
        arguments = parser.parse_args(given_words())
        found = read_comparison(arguments.comparison)
        add_results(
            arguments.checkpoint, found, arguments.dataset, arguments.revision, arguments.llm, arguments.label_source
        )
        say(f"card: {arguments.checkpoint / CARD_FILE}")
        if arguments.push:
            commit = push_results(arguments.checkpoint, arguments.push)
            say(f"pushed: {arguments.push} at {commit}")

    return exit_status(write)


if __name__ == "__main__":
    sys.exit(main())
