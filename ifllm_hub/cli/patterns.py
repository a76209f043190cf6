"""`ifllm patterns`: how people read."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.options import DatasetArgument
from ifllm_hub.cli.printing import bar
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Dataset"


@app.command(rich_help_panel=PANEL)
def patterns(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder to write.", show_default=False)],
) -> None:
    """How people read: measures of each reading, what they vary with, and a page about it, patterns.html."""
    from ifllm_hub.report.patterns.page import write_patterns

    with bar("patterns") as advance:
        page, found = write_patterns(dataset, out, advance=advance)
    surviving = sum(effect.holm <= 0.05 for effect in found.effects)
    say(f"{len(found.effects)} comparisons, {surviving} of which survive them all (Holm)\npage: {page}")
