"""`ifllm import`: somebody else's recordings, or what a chat product exports, as a dataset folder."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ifllm_hub.cli.printing import bar
from ifllm_hub.terminal import say

if TYPE_CHECKING:
    from ifllm_hub.sources.source import Facts, Source

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


def _import(source: "Source[Counter[str]]", facts: "Facts", out: Path, withdraw: Path | None) -> None:
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


@app.command("oasst-etc")
def oasst_etc(
    folder: Annotated[Path, typer.Argument(help="The cloned repository.", show_default=False)],
    out: OutArgument,
    withdraw: WithdrawOption = None,
) -> None:
    """OASST-ETC: a laboratory eye tracker, two answers one after the other, and which one was better."""
    from ifllm_hub.sources.oasst_etc.study import FACTS, open_oasst_etc

    _import(open_oasst_etc(folder), FACTS, out, withdraw)


@app.command("open-webui")
def open_webui(
    file: Annotated[Path, typer.Argument(help="The feedback export, a JSON file.", show_default=False)],
    out: OutArgument,
    withdraw: WithdrawOption = None,
) -> None:
    """What Open WebUI exports of its users' thumbs and arena votes."""
    from ifllm_hub.sources.open_webui import FACTS, open_open_webui

    _import(open_open_webui(file), FACTS, out, withdraw)


@app.command("real-human-eval")
def real_human_eval(
    path: Annotated[Path, typer.Argument(help="The cloned repository, or chat_data.csv.", show_default=False)],
    out: OutArgument,
    withdraw: WithdrawOption = None,
) -> None:
    """RealHumanEval: chats of programmers, and from which answers they copied."""
    from ifllm_hub.sources.real_human_eval import FACTS, open_real_human_eval

    _import(open_real_human_eval(path), FACTS, out, withdraw)
