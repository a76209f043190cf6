"""`ifllm run | report`: everything from a release to a page about it."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.options import QuestionsOption, SeedsOption, WorkersOption
from ifllm_hub.cli.printing import stage_bars
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Everything at once"


@app.command(name="run", rich_help_panel=PANEL)
def run_all(
    out: Annotated[Path, typer.Option(help="Run folder.", show_default=False)],
    release: Annotated[str | None, typer.Option(help="Folder, archive or URL of a release; default: simulate.")] = None,
    workers: WorkersOption = 24,
    questions: QuestionsOption = 300,
    seed: Annotated[int, typer.Option(help="Of the simulation and of training.")] = 0,
    seeds: SeedsOption = 20,
    recipe: Annotated[str, typer.Option(help="Policy and training: a recipe name or YAML file.")] = "smollm2-135m-cpu",
    label_source: Annotated[str, typer.Option(help="Whose labels: see `ifllm label`.")] = "forest",
    steps: Annotated[int | None, typer.Option(min=1, help="DPO steps; default: as the recipe says.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Training processes, one a GPU.")] = 1,
) -> None:
    """Everything from a release to a report; finished stages are skipped on a second run."""
    from ifllm_hub.pipeline import Settings, run

    settings = Settings(release, workers, questions, seed, seeds, recipe, label_source, steps, processes)
    with stage_bars() as on_stage:
        places = run(settings, out, on_stage)
    for name, path in places.items():
        say(f"{name + ':':14}{path}")


@app.command(rich_help_panel=PANEL)
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
) -> None:
    """Write report.html of a run folder."""
    from ifllm_hub.report.report import build_report

    say(f"report: {build_report(run)}")
