# /// script
# requires-python = ">=3.11"
# dependencies = ["ifllm_hub[eval]"]
# ///
r"""People compare the answers of an aligned model with its baseline's, not knowing which is which, like `ifllm rate`.

Make a page for each rater (the key stays with you), then hand out runs/human/for_raters/*.html:

    python eval/human.py export --model runs/gen/dpo.parquet --baseline runs/gen/sft.parquet --llm qwen3-1.7b \
        --label-source forest --raters r1 r2 r3 --items 30 --out runs/human

Collect what they return, and score it beside a judge's verdicts on the same answers:

    python eval/human.py import --key runs/human/key.parquet --out runs/human/ratings.parquet ratings-*.csv
    python eval/human.py score --ratings runs/human/ratings.parquet --judgments runs/judgments.parquet \
        --out runs/human/scores
"""

import argparse
import logging
import sys
from pathlib import Path

from ifllm_hub.align.runs.script import exit_status
from ifllm_hub.evaluation.human.ratings import import_ratings
from ifllm_hub.evaluation.human.report import write_scores
from ifllm_hub.evaluation.human.task import KEY, KEY_FILE, RATERS_FOLDER, export_task
from ifllm_hub.evaluation.tables import read_table, write_table
from ifllm_hub.terminal import given_words

log = logging.getLogger(__name__)


def run(args: argparse.Namespace) -> None:
    if args.command == "export":
        key = export_task(
            args.model, args.baseline, args.out, args.llm, args.label_source, args.raters, args.items, args.seed
        )
        log.info("%d items for %d raters: %s", key["item_id"].n_unique(), len(args.raters), args.out / RATERS_FOLDER)
        log.info("The key says whose answers are whose; keep it from the raters: %s", args.out / KEY_FILE)
    elif args.command == "import":
        ratings = import_ratings(args.key, args.files)
        write_table(args.out, ratings)
        asked = read_table(args.key, KEY).height
        log.info("%d of %d ratings, by %d raters: %s", ratings.height, asked, ratings["rater_id"].n_unique(), args.out)
    else:
        log.info("%s", write_scores(args.ratings, args.judgments, args.out))


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="make a blinded task: a page for each rater, a sheet, and the key")
    read = commands.add_parser("import", help="check the files that raters returned and join them with the key")
    score = commands.add_parser("score", help="compute tests, intervals and agreement, as JSON and Markdown")
    for command in (export, read, score):
        command.add_argument("--out", type=Path, required=True, help="folder or Parquet file to write")
    export.add_argument("--model", type=Path, required=True, help="answers of the aligned model (Parquet)")
    export.add_argument("--baseline", type=Path, required=True, help="answers of its baseline (Parquet)")
    export.add_argument("--llm", required=True, help="which base LLM was aligned")
    export.add_argument("--label-source", "--label_source", required=True, help="whose labels it was aligned on")
    export.add_argument("--raters", nargs="+", required=True, help="pseudonyms")
    export.add_argument("--items", type=int, help="how many questions, drawn at random; default: all")
    export.add_argument("--seed", type=int, help="default: drawn at random; kept in the key")
    read.add_argument("--key", type=Path, required=True, help="key.parquet of the task")
    read.add_argument("files", type=Path, nargs="+", help="CSV files of the raters")
    score.add_argument("--ratings", type=Path, nargs="+", required=True, help="files of ratings (Parquet)")
    score.add_argument("--judgments", type=Path, nargs="+", default=[], help="judgments of the same answers (Parquet)")
    return parser.parse_args(given_words() if argv is None else argv)


def main() -> int:
    return exit_status(lambda: run(parse_arguments()))


if __name__ == "__main__":
    sys.exit(main())
