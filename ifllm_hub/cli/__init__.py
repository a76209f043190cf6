"""`ifllm`: one command per stage, one file per part of the package, and `ifllm run` for all stages."""

import sys

import typer

from ifllm_hub.cli import align, collect, data, evaluate, importing, preferences, reward, run
from ifllm_hub.errors import IfllmError
from ifllm_hub.terminal import given_words, say_error

app = typer.Typer(
    name="ifllm",
    help="How people read LLM answers, as a dataset, a reward model and preference-tuned LLMs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for room in (run, data, importing, reward, preferences, align, evaluate, collect):
    app.add_typer(room.app)


def main() -> None:
    """Entry point: a clear error is one line on stderr and exit status 2."""
    try:
        app(given_words())
    except IfllmError as error:
        say_error(error)
        sys.exit(2)
