"""`ifllm label`: preference pairs, and whose labels they have."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.options import AllWorkersOption, FolderArgument
from ifllm_hub.cli.printing import print_label_sources
from ifllm_hub.errors import IfllmError
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Preferences and alignment"


@app.command(rich_help_panel=PANEL)
def label(
    dataset: FolderArgument,
    all_workers: AllWorkersOption = False,
    labels: Annotated[
        Path | None,
        typer.Option(help="Labels from elsewhere: question_id, probability (of left); .parquet, .csv, .jsonl."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="The label source that --labels are.", show_default=False)] = None,
    export: Annotated[
        Path | None, typer.Option(help="Make no labels; write those of --source here, .jsonl or .parquet.")
    ] = None,
    source: Annotated[str, typer.Option(help="The label source to --export.")] = "forest",
) -> None:
    """Write the configs `preferences_*`: the workers' own labels, and those of models with flip probabilities."""
    if export is not None:
        from ifllm_hub.preferences.load import export_preferences

        if labels is not None or name is not None:
            raise IfllmError("--export makes no labels. Add those of --labels first, then export.")
        say(f"{export_preferences(dataset, source, export)} pairs: {export}")
        return
    from ifllm_hub.preferences.labels import agreements, write_preferences

    print_label_sources(agreements(write_preferences(dataset, all_workers, labels, name)))
    say(f"preferences: {dataset / 'data'}, a config a label source")
