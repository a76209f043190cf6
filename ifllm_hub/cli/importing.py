"""`ifllm import`: somebody else's recordings, or what a chat product exports, as a dataset folder."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.printing import bar
from ifllm_hub.sources.source import Facts, Source
from ifllm_hub.terminal import say

app = typer.Typer(
    name="import",
    help="Somebody else's recordings, or a chat product's export, as a dataset folder.",
    no_args_is_help=True,
    rich_help_panel="Dataset",
)
OutArgument = Annotated[Path, typer.Argument(help="Dataset folder to write.", show_default=False)]
WithdrawOption = Annotated[
    Path | None, typer.Option(help="File of worker ids to leave out, one per line.", show_default=False)
]


def _import(source: Source[Counter[str]], facts: Facts, out: Path, withdraw: Path | None) -> None:
    from ifllm_hub.dataset.privacy.consent import read_withdrawn
    from ifllm_hub.importing import import_dataset

    withdrawn = read_withdrawn(withdraw) if withdraw else frozenset()
    with bar("import") as advance:
        manifest = import_dataset(source, facts, out, withdrawn, advance)
    for status, number in manifest["received"].items():
        say(f"{number:,} {status}")
    pairs, single = manifest["questions"]["pairwise"], manifest["questions"]["pointwise"]
    say(f"{pairs:,} questions with two answers and {single:,} with one, of {manifest['people']:,} people")
    say(f"dataset: {out}")
