# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[train]"]
# ///
r"""Score reward models by what workers preferred, under the protocol of the leaderboard.

The model in the package beside a text student and a judge, on the workers of the test split:

    python eval/reward_model.py --dataset ORG/ifllm --behavior default --text runs/student \
        --judgments runs/judgments.parquet --out runs/reward_models

A text student on RewardBench 2, once its file is here:

    hf download allenai/reward-bench-2 --repo-type dataset --local-dir reward-bench-2
    python eval/reward_model.py --text runs/student --out runs/reward_bench \
        --reward_bench reward-bench-2/data/test-00000-of-00001.parquet
"""

import argparse
import logging
import sys
from pathlib import Path

import polars as pl

from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.results import write_results
from ifllm_hub.evaluation.reward_models.best_of_n import benchmark_page, read_benchmark, score_benchmark
from ifllm_hub.evaluation.reward_models.board import evaluate_reward_models, reward_models_page
from ifllm_hub.evaluation.reward_models.text_scorer import load_scorer
from ifllm_hub.evaluation.tables import JUDGMENTS, read_table
from ifllm_hub.terminal import given_words

log = logging.getLogger(__name__)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--dataset", help="dataset folder or Hub repo id")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub dataset")
    parser.add_argument("--behavior", nargs="+", default=[], help="reward models of ours: default, folders or Hub ids")
    parser.add_argument("--text", nargs="+", default=[], help="text reward models: folders or Hub ids")
    parser.add_argument("--judgments", type=Path, nargs="+", help="judgments of the dataset's pairs, in both orders")
    parser.add_argument("--every_worker", action="store_true", help="score on the train split's workers too")
    parser.add_argument("--all_workers", action="store_true", help="with the workers on the authors' exclusion list")
    parser.add_argument("--seeds", type=int, default=20, help="of the folds; claims want at least 20")
    parser.add_argument("--reward_bench", type=Path, help="file of RewardBench 2: score the text models on it instead")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    return parser.parse_args(given_words() if argv is None else argv)


def run(args: argparse.Namespace) -> None:
    if args.reward_bench is not None:
        rows = read_benchmark(args.reward_bench)
        if not args.text:
            raise IfllmError("RewardBench 2 has texts and no behavior: name a text model (--text).")
        results = {model: score_benchmark(rows, load_scorer(model)) for model in args.text}
        page = benchmark_page(results)
        write_results(args.out, "reward_bench", results, page)
    elif args.dataset is not None:
        judged = pl.concat([read_table(file, JUDGMENTS) for file in args.judgments]) if args.judgments else None
        board = evaluate_reward_models(
            args.dataset,
            args.behavior,
            args.text,
            judged,
            args.every_worker,
            args.all_workers,
            args.seeds,
            args.revision,
        )
        page = reward_models_page(board)
        write_results(args.out, "reward_models", board, page)
    else:
        raise IfllmError("Name a dataset (--dataset), or a file of RewardBench 2 (--reward_bench).")
    log.info("%s", page)


def main() -> int:
    return exit_status(lambda: run(parse_arguments()))


if __name__ == "__main__":
    sys.exit(main())
