"""`ifllm label | plan | export-labels`: preference pairs, labeled by people or by models, and how many it takes."""

from pathlib import Path
from typing import Annotated

import typer

from ifllm_hub.cli.options import AllWorkersOption, FolderArgument
from ifllm_hub.cli.printing import print_label_sources, print_label_worth, print_plan
from ifllm_hub.errors import IfllmError
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
def plan(
    pilot: Annotated[
        str | None, typer.Argument(help="A labeled dataset, folder or Hub repo id; default: numbers of the study.")
    ] = None,
    gain: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Gain in accuracy over the longer answer to detect.")
    ] = 0.03,
    power: Annotated[float, typer.Option(min=0.1, max=0.99, help="How likely it is to be detected.")] = 0.8,
    label_source: Annotated[str, typer.Option(help="Whose labels gain that; of a pilot dataset.")] = "forest",
    pairs_per_reader: Annotated[
        float | None, typer.Option(min=1, help="Mean of rated pairs a reader; default: as in the pilot.")
    ] = None,
    between_sd: Annotated[
        float | None, typer.Option(min=0, max=0.5, help="SD of the gain between readers; default: as in the pilot.")
    ] = None,
    explicit_labels: Annotated[int, typer.Option(min=1, help="Count the readings that are worth so many.")] = 1_000,
) -> None:
    """How many readers a study needs to detect a gain, and how many readings are worth explicit labels."""
    from ifllm_hub.preferences.plan import STUDY, pilot_of, plan_study, readings_for

    if pilot is None and label_source != "forest":
        raise IfllmError(f"The numbers of the study are those of forest. Name a dataset with labels of {label_source}.")
    made = STUDY if pilot is None else pilot_of(pilot, label_source)
    made = made.assuming(pairs_per_reader, between_sd)
    variances = {"as estimated": made.between, "with care": made.between_at_most}
    plans = {name: plan_study(made, gain, power, between) for name, between in variances.items()}
    readings = {
        f"readings worth {explicit_labels:,} explicit labels": readings_for(explicit_labels, made.reading),
        "readings worth as many beyond the length": readings_for(explicit_labels, made.beyond),
    }
    print_plan(made, plans, variances, readings)
    few, many = plans.values()
    needed = f"{few.readers:,} readers who rate {few.pairs:,.0f} pairs"
    careful = "" if many == few else f"; with care, {many.readers:,} who rate {many.pairs:,.0f}"
    say(f"To detect a gain of {gain:+g} with a power of {power:.0%}: {needed}{careful}.")


@app.command(rich_help_panel=PANEL)
def export_labels(
    dataset: FolderArgument,
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl or .parquet.", show_default=False)],
    label_source: Annotated[str, typer.Option(help="Whose labels: see `ifllm label`.")] = "forest",
) -> None:
    """Write the preference pairs of one label source to a file that any trainer can read."""
    from ifllm_hub.preferences.load import export_preferences

    say(f"{export_preferences(dataset, label_source, out)} pairs: {out}")
