"""`ifllm label | export-labels`: preference pairs, labeled by people or by models."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.options import AllWorkersOption, FolderArgument
from ifllm_hub.cli.printing import print_label_sources, print_label_worth
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Preferences and alignment"


@app.command(rich_help_panel=PANEL)
def label(
    dataset: FolderArgument,
    all_workers: AllWorkersOption = False,
    labels_file: Annotated[
        Path | None,
        typer.Option(help="Labels from elsewhere: question_id, probability (of left); .parquet, .csv, .jsonl."),
    ] = None,
    label_source: Annotated[
        str | None, typer.Option(help="Name for the label source of --labels-file.", show_default=False)
    ] = None,
) -> None:
    """Write the configs `preferences_*`: the workers' own labels, and those of models with flip probabilities."""
    from ifllm_hub.dataset.label_worth import label_worth
    from ifllm_hub.preferences.labels import agreements, write_preferences

    rows = write_preferences(dataset, all_workers, labels_file, label_source)
    print_label_sources(agreements(rows))
    print_label_worth(label_worth(rows))
    say(f"preferences: {dataset / 'data'}, one config per label source")


@app.command(rich_help_panel=PANEL)
def export_labels(
    dataset: FolderArgument,
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl or .parquet.", show_default=False)],
    label_source: Annotated[str, typer.Option(help="Whose labels: see `ifllm label`.")] = "forest",
) -> None:
    """Write the preference pairs of one label source to a file that any trainer can read."""
    from ifllm_hub.preferences.load import export_preferences

    say(f"{export_preferences(dataset, label_source, out)} pairs: {out}")
