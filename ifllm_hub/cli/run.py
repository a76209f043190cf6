"""`ifllm run | report`: everything from a release to a page about it."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.printing import stage_bars
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Everything at once"
# Headings in the help of `ifllm run`.
DATA, TRAINING = "Data and reward model", "Alignment"


@app.command(name="run", rich_help_panel=PANEL)
def run_all(
    out: Annotated[Path, typer.Option(help="Run folder.", show_default=False)],
    release: Annotated[
        str | None, typer.Option(help="Folder, archive or URL of a release; default: simulate.", rich_help_panel=DATA)
    ] = None,
    workers: Annotated[int, typer.Option(help="Simulated workers.", rich_help_panel=DATA)] = 24,
    questions: Annotated[int, typer.Option(help="Simulated questions.", rich_help_panel=DATA)] = 300,
    seed: Annotated[int, typer.Option(help="Seed of the simulation and of training.", rich_help_panel=DATA)] = 0,
    seeds: Annotated[
        int,
        typer.Option(min=1, help="Fold and forest seeds of the reward model; use 20 for claims.", rich_help_panel=DATA),
    ] = 20,
    recipe: Annotated[
        str, typer.Option(help="A recipe name or YAML file.", rich_help_panel=TRAINING)
    ] = "smollm2-135m-cpu",
    policy: Annotated[
        str | None,
        typer.Option(help="Start from this model or folder; default: as the recipe says.", rich_help_panel=TRAINING),
    ] = None,
    label_source: Annotated[
        str, typer.Option(help="Whose labels: see `ifllm label`.", rich_help_panel=TRAINING)
    ] = "forest",
    steps: Annotated[
        int | None, typer.Option(min=1, help="DPO steps; default: as the recipe says.", rich_help_panel=TRAINING)
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Training processes, one per GPU.", rich_help_panel=TRAINING)
    ] = 1,
) -> None:
    """Everything from a release to a report; finished stages are skipped on a second run."""
    from ifllm_hub.pipeline import Settings, run

    settings = Settings(release, workers, questions, seed, seeds, recipe, policy, label_source, steps, processes)
    with stage_bars() as on_stage:
        places = run(settings, out, on_stage)
    for name, path in places.items():
        say(f"{name + ':':14}{path}")


@app.command(rich_help_panel=PANEL)
def report(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A run folder, or an evaluation folder with judgments/ and comparison/.", show_default=False
        ),
    ],
) -> None:
    """Write report.html for a run folder, or evaluation.html for an evaluation folder."""
    from ifllm_hub.report.evaluation import COMPARISON, JUDGMENTS, build_evaluation_page
    from ifllm_hub.report.report import build_report

    is_evaluation = any((folder / name).is_dir() for name in (JUDGMENTS, COMPARISON))
    say(f"report: {(build_evaluation_page if is_evaluation else build_report)(folder)}")
