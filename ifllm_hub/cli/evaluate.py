"""`ifllm generate | judge | compare | add-results | score-models | rate`: judging the models."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.options import check_extra
from ifllm_hub.cli.printing import bar
from ifllm_hub.cli.settings import PASSED_ON, read_settings
from ifllm_hub.errors import IfllmError
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Evaluation"
rate = typer.Typer(
    name="rate",
    help="People compare the answers of two models, not knowing which is which.",
    no_args_is_help=True,
    rich_help_panel=PANEL,
)
app.add_typer(rate)


@app.command(context_settings=PASSED_ON, rich_help_panel=PANEL)
def generate(context: typer.Context) -> None:
    """Let a language model answer questions of workers who are in no training data; a stopped run continues."""
    from ifllm_hub.align.runs.script import show_log
    from ifllm_hub.evaluation.generation.generate import GenerateArguments, run_generate

    panels = {
        "Which prompts": "dataset dataset_revision questions history prompts prompt_seed",
        "How it answers": "max_new_tokens temperature top_p top_k seed greedy engine batch_size",
    }
    arguments = read_settings(context, GenerateArguments, panels)
    check_extra("Generating answers", "train")
    show_log()
    run_generate(arguments)
    say(f"answers: {arguments.output}")


@app.command(context_settings=PASSED_ON, rich_help_panel=PANEL)
def judge(context: typer.Context) -> None:
    """Let a language model judge answers, in both orders, over the OpenAI chat API; a stopped run continues."""
    from ifllm_hub.align.runs.script import show_log
    from ifllm_hub.evaluation.judge.run import JudgeArguments, run_judge

    panels = {
        "Answers of two models": "model_answers baseline_answers llm label_source",
        "Or pairs that people rated": "dataset dataset_revision history pairs pair_seed",
        "How it judges": "mode preset explanation examples temperature max_tokens structured",
        "How it is asked": "base_url provider api_key_variable concurrency attempts backoff timeout retry_malformed",
        "What it costs": "prompt_price answer_price dry_run",
    }
    arguments = read_settings(context, JudgeArguments, panels)
    show_log()
    run_judge(arguments)
    if not arguments.dry_run:
        say(f"judgments: {arguments.output}")


@app.command(rich_help_panel=PANEL)
def compare(
    judgments: Annotated[list[Path], typer.Argument(help="Parquet files, or folders of them.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the comparison.", show_default=False)],
    draws: Annotated[int, typer.Option(min=1, help="Draws of the bootstrap.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
) -> None:
    """Compare aligned models with what they were before alignment, by a judge's judgments."""
    from ifllm_hub.evaluation.comparison.compare import PAGE_FILE, run_comparison

    with bar("compare") as advance:
        run_comparison(judgments, out, draws, seed, advance)
    say(f"comparison: {out / PAGE_FILE}")


@app.command(name="add-results", rich_help_panel=PANEL)
def add_results_to_card(
    comparison: Annotated[Path, typer.Argument(help="Folder that `ifllm compare` wrote.", show_default=False)],
    checkpoint: Annotated[Path, typer.Argument(help="Folder of the aligned model.", show_default=False)],
    dataset: Annotated[str | None, typer.Option(help="Hub id of the dataset that the prompts are from.")] = None,
    revision: Annotated[str | None, typer.Option(help="Commit of that dataset.")] = None,
    llm: Annotated[str | None, typer.Option(help="Which cell, if several models have that name.")] = None,
    label_source: Annotated[str | None, typer.Option(help="Which cell, if several models have that name.")] = None,
    push: Annotated[str | None, typer.Option(help="Hub id of the checkpoint, to push the card to.")] = None,
) -> None:
    """Write what a judge found into the card of an aligned checkpoint."""
    from ifllm_hub.evaluation.comparison.checkpoint_card import CARD_FILE, add_results, push_results
    from ifllm_hub.evaluation.comparison.document import read_comparison

    add_results(checkpoint, read_comparison(comparison), dataset, revision, llm, label_source)
    say(f"card: {checkpoint / CARD_FILE}")
    if push:
        say(f"pushed: {push} at {push_results(checkpoint, push)}")


MODELS, PAIRS = "Which models", "Which pairs"


@app.command(rich_help_panel=PANEL)
def score_models(
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default=False)],
    behavior: Annotated[
        list[str] | None,
        typer.Option(
            help="Behavior reward model: default, a folder or a Hub id; may be repeated.", rich_help_panel=MODELS
        ),
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(help="Text reward model: a folder or a Hub id; may be repeated.", rich_help_panel=MODELS),
    ] = None,
    judgments: Annotated[
        list[Path] | None,
        typer.Option(help="Judgments of the dataset's pairs, in both orders; may be repeated.", rich_help_panel=MODELS),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="A dataset folder or Hub repo id.", rich_help_panel=PAIRS)] = None,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit of a Hub dataset.", rich_help_panel=PAIRS)
    ] = None,
    every_worker: Annotated[
        bool, typer.Option("--every-worker", help="Score on the train split's workers too.", rich_help_panel=PAIRS)
    ] = False,
    all_workers: Annotated[
        bool,
        typer.Option("--all-workers", help="Keep the workers on the authors' exclusion list.", rich_help_panel=PAIRS),
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=1, help="Seeds of the folds; use 20 for claims.", rich_help_panel=PAIRS)
    ] = 20,
    reward_bench: Annotated[
        Path | None,
        typer.Option(help="File of RewardBench 2: score the text models on it instead.", rich_help_panel=PAIRS),
    ] = None,
) -> None:
    """Score reward models by what workers preferred, under the protocol of the leaderboard."""
    if text:
        check_extra("A text reward model", "train")
    from ifllm_hub.evaluation.reward_models.score import score_on_benchmark, score_on_workers

    if reward_bench is not None:
        say(score_on_benchmark(reward_bench, text or [], out))
    elif dataset is not None:
        say(
            score_on_workers(
                dataset, behavior or [], text or [], judgments or [], out, every_worker, all_workers, seeds, revision
            )
        )
    else:
        raise IfllmError("Name a dataset (--dataset), or a file of RewardBench 2 (--reward-bench).")


TASK, DRAW = "Whose answers", "Who rates what"


@rate.command(name="export")
def export_ratings_task(
    model: Annotated[
        Path, typer.Option(help="Answers of the aligned model.", show_default=False, rich_help_panel=TASK)
    ],
    baseline: Annotated[Path, typer.Option(help="Answers of its baseline.", show_default=False, rich_help_panel=TASK)],
    llm: Annotated[str, typer.Option(help="Which base LLM was aligned.", show_default=False, rich_help_panel=TASK)],
    label_source: Annotated[
        str, typer.Option(help="Whose labels it was aligned on.", show_default=False, rich_help_panel=TASK)
    ],
    rater: Annotated[
        list[str], typer.Option(help="Pseudonym; may be repeated.", show_default=False, rich_help_panel=DRAW)
    ],
    out: Annotated[Path, typer.Option(help="Folder of the task.", show_default=False)],
    items: Annotated[
        int | None, typer.Option(help="Questions, drawn at random; default: all.", rich_help_panel=DRAW)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Default: drawn at random; kept in the key.", rich_help_panel=DRAW)
    ] = None,
) -> None:
    """Make a blinded task: a page for each rater, a sheet, and the key."""
    from ifllm_hub.evaluation.human.task import KEY_FILE, RATERS_FOLDER, export_task

    key = export_task(model, baseline, out, llm, label_source, rater, items, seed)
    say(f"{key['item_id'].n_unique()} items for {len(rater)} raters: {out / RATERS_FOLDER}")
    say(f"The key says whose answers are whose; keep it from the raters: {out / KEY_FILE}")


@rate.command(name="import")
def import_ratings_files(
    files: Annotated[list[Path], typer.Argument(help="CSV files of the raters.", show_default=False)],
    key: Annotated[Path, typer.Option(help="key.parquet of the task.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File of ratings to write (Parquet).", show_default=False)],
) -> None:
    """Check the files that raters returned and join them with the key."""
    from ifllm_hub.evaluation.human.ratings import import_ratings
    from ifllm_hub.evaluation.human.task import KEY
    from ifllm_hub.evaluation.tables import read_table, write_table

    ratings = import_ratings(key, files)
    write_table(out, ratings)
    asked = read_table(key, KEY).height
    say(f"{ratings.height} of {asked} ratings, by {ratings['rater_id'].n_unique()} raters: {out}")


@rate.command(name="score")
def score_ratings_files(
    ratings: Annotated[list[Path], typer.Argument(help="Files of ratings (Parquet).", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default=False)],
    judgments: Annotated[
        list[Path] | None, typer.Option(help="Judgments of the same answers (Parquet); may be repeated.")
    ] = None,
) -> None:
    """Compute tests, intervals and agreement, as JSON and Markdown."""
    from ifllm_hub.evaluation.human.report import write_scores

    say(write_scores(ratings, judgments or [], out))
