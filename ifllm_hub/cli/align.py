"""`ifllm align | compare-labels`: language models tuned on preferences."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ifllm_hub.cli.options import DatasetArgument
from ifllm_hub.cli.printing import bar
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Preferences and alignment"
# Headings in the help of `ifllm align`, and of `ifllm compare-labels`.
WHAT, HOW = "What is trained", "On which machine"
FIRST_ORDER, TRAINING = "With first_order", "With training"


@app.command(rich_help_panel=PANEL)
def align(
    recipe: Annotated[str, typer.Option(help="A folder of training/recipes, or a YAML file.", show_default=False)],
    dataset: Annotated[str, typer.Option(help="A dataset folder or Hub repo id.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint; a second run resumes.", show_default=False)],
    stage: Annotated[
        Literal["sft", "dpo", "dpo-reference", "kto"],
        typer.Option(
            help="Which YAML file of the recipe; dpo-reference: as in the paper's released code.", rich_help_panel=WHAT
        ),
    ] = "dpo",
    policy: Annotated[
        str | None,
        typer.Option(help="Start from this model or folder; default: as the recipe says.", rich_help_panel=WHAT),
    ] = None,
    label_source: Annotated[
        str | None,
        typer.Option(
            help="Whose labels: see `ifllm label`; default: as the recipe says, else forest.", rich_help_panel=WHAT
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps; default: as the recipe says.", rich_help_panel=WHAT)
    ] = None,
    processes: Annotated[int, typer.Option(help="Training processes, one per GPU.", rich_help_panel=HOW)] = 1,
    sharding: Annotated[
        Literal["ddp", "fsdp2", "zero2", "zero3"],
        typer.Option(help="How the weights are spread over processes.", rich_help_panel=HOW),
    ] = "ddp",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the command and do not run it.", rich_help_panel=HOW)
    ] = False,
) -> None:
    """Train a language model: prints the `accelerate launch` line, runs it and shows its progress."""
    import shlex

    from ifllm_hub.align.runs.launch import check_machine, command_line, launch

    given = {"label_source": label_source, "policy": policy, "max_steps": steps}
    overrides = {name: value for name, value in given.items() if value is not None}
    command = command_line(recipe, dataset, out, overrides, processes, stage, sharding)
    say(shlex.join(command))
    if dry_run:
        return
    check_machine(processes, sharding)
    with bar(stage) as advance:
        launch(command, out, on_progress=lambda step, of, loss: advance(step / of))
    say(f"checkpoint: {out}")


@app.command(rich_help_panel=PANEL)
def compare_labels(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder of the results; a second run resumes there.", show_default=False)],
    method: Annotated[
        Literal["first_order", "training"] | None,
        typer.Option(
            help="By one gradient an answer, or by a training run a label source; default: training with a GPU, else "
            "first_order.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at a time, of one thread each.")] = 1,
    policy: Annotated[
        str, typer.Option(help="A policy's name, folder or Hub id.", rich_help_panel=FIRST_ORDER)
    ] = "smollm2-135m",
    layers: Annotated[int, typer.Option(min=1, help="Last layers that are trained.", rich_help_panel=FIRST_ORDER)] = 10,
    judged_by: Annotated[
        str, typer.Option(help="Label source that says what is better.", rich_help_panel=FIRST_ORDER)
    ] = "explicit",
    permutations: Annotated[
        int, typer.Option(min=200, help="Of the workers' labels, for the control.", rich_help_panel=FIRST_ORDER)
    ] = 499,
    recipe: Annotated[
        str, typer.Option(help="A recipe with the stages sft and dpo.", rich_help_panel=TRAINING)
    ] = "smollm2-135m-labels",
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds.", rich_help_panel=TRAINING)] = 3,
) -> None:
    """Tune a policy on each label source, all else equal, and measure whether it prefers what unseen workers prefer."""
    from ifllm_hub.align.compare_labels import Comparison, compare_labels
    from ifllm_hub.align.first_order.comparison import FirstOrder
    from ifllm_hub.align.first_order.gradients import Adapter
    from ifllm_hub.align.first_order.page import write_first_order
    from ifllm_hub.align.labels_table import write_labels_page
    from ifllm_hub.align.policies import accelerator_available

    with bar("compare labels") as advance:
        if (method or ("training" if accelerator_available() else "first_order")) == "training":
            comparison = Comparison(dataset, recipe, out, seeds, jobs)
            page = write_labels_page(comparison, compare_labels(comparison, advance))
        else:
            page = write_first_order(
                FirstOrder(dataset, out, Adapter(policy, layers), judged_by, permutations, jobs), advance
            )
    say(f"labels: {page}")
