"""`ifllm rate export | import | score`: people compare two models, not knowing which is which."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.terminal import say

app = typer.Typer(
    name="rate",
    help="People compare the answers of two models, not knowing which is which.",
    no_args_is_help=True,
    rich_help_panel="Evaluation",
)
TASK, DRAW = "Whose answers", "Who rates what"


@app.command()
def export(
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
    seed: Annotated[int | None, typer.Option(help="Default: drawn, and kept in the key.", rich_help_panel=DRAW)] = None,
) -> None:
    """Make a blinded task: a page for each rater, a sheet, and the key."""
    from ifllm_hub.evaluation.human.task import KEY_FILE, RATERS_FOLDER, export_task

    key = export_task(model, baseline, out, llm, label_source, rater, items, seed)
    say(f"{key['item_id'].n_unique()} items for {len(rater)} raters: {out / RATERS_FOLDER}")
    say(f"The key says whose answers are whose; keep it from the raters: {out / KEY_FILE}")


@app.command(name="import")
def read(
    files: Annotated[list[Path], typer.Argument(help="CSV files of the raters.", show_default=False)],
    key: Annotated[Path, typer.Option(help="key.parquet of the task.", show_default=False)],
    out: Annotated[Path, typer.Option(help="File of ratings to write (Parquet).", show_default=False)],
) -> None:
    """Check what raters handed back and put it together with the key."""
    from ifllm_hub.evaluation.human.ratings import import_ratings
    from ifllm_hub.evaluation.human.task import KEY
    from ifllm_hub.evaluation.tables import read_table, write_table

    ratings = import_ratings(key, files)
    write_table(out, ratings)
    asked = read_table(key, KEY).height
    say(f"{ratings.height} of {asked} ratings, by {ratings['rater_id'].n_unique()} raters: {out}")


@app.command()
def score(
    ratings: Annotated[list[Path], typer.Argument(help="Files of ratings (Parquet).", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the results.", show_default=False)],
    judgments: Annotated[
        list[Path] | None, typer.Option(help="Judgments of the same answers (Parquet); may be repeated.")
    ] = None,
) -> None:
    """Tests, intervals and agreement, as JSON and Markdown."""
    from ifllm_hub.evaluation.human.report import write_scores

    say(write_scores(ratings, judgments or [], out))
