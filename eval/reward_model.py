# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Score reward models by what workers preferred, under the protocol of the leaderboard, like `ifllm score-models`.

The package's own model beside a text student and a judge, on the workers of the test split:

    python eval/reward_model.py --dataset ORG/ifllm --behavior default --text runs/student \
        --judgments runs/judgments.parquet --out runs/reward_models

A text student on RewardBench 2, after downloading its file:

    hf download allenai/reward-bench-2 --repo-type dataset --local-dir reward-bench-2
    python eval/reward_model.py --text runs/student --out runs/reward_bench \
        --reward-bench reward-bench-2/data/test-00000-of-00001.parquet
"""

import argparse
import logging
import sys
from pathlib import Path

from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.reward_models.score import score_on_benchmark, score_on_workers
from ifllm_hub.terminal import given_words

log = logging.getLogger(__name__)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add = parser.add_argument
    add("--dataset", help="dataset folder or Hub repo id")
    add("--revision", help="branch, tag or commit of a Hub dataset")
    add("--behavior", nargs="+", default=[], help="behavior reward models: default, folders or Hub ids")
    add("--text", nargs="+", default=[], help="text reward models: folders or Hub ids")
    add("--judgments", type=Path, nargs="+", default=[], help="judgments of the dataset's pairs, in both orders")
    add("--every-worker", "--every_worker", action="store_true", help="score on the train split's workers too")
    add("--all-workers", "--all_workers", action="store_true", help="keep the workers on the authors' exclusion list")
    add("--seeds", type=int, default=20, help="seeds of the folds; use at least 20 for claims")
    add(
        "--reward-bench", "--reward_bench", type=Path, help="file of RewardBench 2: score the text models on it instead"
    )
    add("--out", type=Path, required=True, help="folder of the results")
    return parser.parse_args(given_words())


def run(args: argparse.Namespace) -> None:
    if args.reward_bench is not None:
        page = score_on_benchmark(args.reward_bench, args.text, args.out)
    elif args.dataset is not None:
        page = score_on_workers(
            args.dataset,
            args.behavior,
            args.text,
            args.judgments,
            args.out,
            args.every_worker,
            args.all_workers,
            args.seeds,
            args.revision,
        )
    else:
        raise IfllmError("Name a dataset (--dataset), or a file of RewardBench 2 (--reward-bench).")
    log.info("%s", page)


def main() -> int:
    return exit_status(lambda: run(parse_arguments()))


if __name__ == "__main__":
    sys.exit(main())
