"""What the commands show: progress bars, and tables of results."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ifllm_hub.terminal import cell, say

if TYPE_CHECKING:
    import polars as pl
    from rich.progress import Progress

    from ifllm_hub.collect.experiment.compare import Comparison
    from ifllm_hub.dataset.label_worth import LabelWorth
    from ifllm_hub.preferences.plan import Pilot, Plan
    from ifllm_hub.reward.protocol.leaderboard import Board


def print_label_sources(counts: "pl.DataFrame") -> None:
    """A table of label sources, from what `agreements` counts."""
    from rich.console import Console
    from rich.table import Table

    title = "label sources, and how often they agree with the worker's own label"
    table = Table("source", "split", "pairs", "mean flip prob.", "agreement", "95 % CI", title=title)
    for row in counts.iter_rows(named=True):
        cells = [row["label_source"], row["split"], str(row["pairs"]), f"{row['flip_prob']:.3f}"]
        if row["rated"] and row["label_source"] != "explicit":
            interval = f"{max(row['low'], 0):.3f}-{min(row['high'], 1):.3f}" if row["low"] == row["low"] else ""
            cells += [f"{row['agreeing'] / row['rated']:.3f} of {row['rated']}", interval]
        table.add_row(*map(cell, cells))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def print_label_worth(worths: "list[LabelWorth]") -> None:
    """A table of what label sources are worth."""
    from rich.console import Console
    from rich.table import Table

    from ifllm_hub.dataset.label_worth import worth_table

    title = "what all labels of a source are worth, in explicit labels [95 % CI]"
    table = Table("source", "labels", "by flip prob.", "measured", "by flip prob., all weighed alike", title=title)
    for row in worth_table(worths):
        table.add_row(*map(cell, row))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def print_plan(
    pilot: "Pilot", plans: "dict[str, Plan]", variances: dict[str, float], readings: dict[str, tuple[float, float]]
) -> None:
    """A table of a plan: a column for each of `plans`, and of the numbers of readings as many."""
    from rich.console import Console
    from rich.table import Table

    made, pairs = len(pilot.sizes), sum(pilot.sizes)
    title = f"readers and readings, by {pilot.name}: {pairs:,} rated pairs of {made:,} readers"
    table = Table("", *plans, title=cell(title), caption="with care: the upper 80 % limit of what the pilot estimates")
    table.add_row("SD of the gain between readers", *(f"{variance**0.5:.3f}" for variance in variances.values()))
    table.add_row("readers", *(f"{plan.readers:,}" for plan in plans.values()))
    table.add_row("rated pairs", *(f"{plan.pairs:,.0f}" for plan in plans.values()))
    table.add_row("standard error of the gain", *(f"{plan.standard_error:.4f}" for plan in plans.values()))
    table.add_row("degrees of freedom", *(f"{plan.df:.0f}" for plan in plans.values()))
    for what, numbers in readings.items():
        table.add_row(what, *(f"{number:,.0f}" if math.isfinite(number) else "∞" for number in numbers))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def print_arms(comparison: "Comparison") -> None:
    """A table of arms, and what is to be known before it is read."""
    from rich.console import Console
    from rich.table import Table

    from ifllm_hub.collect.experiment.page import HEAD, notes, rows

    table = Table(*HEAD)
    for row in rows(comparison):
        table.add_row(*map(cell, row))
    for note in notes(comparison):
        say(note)
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def print_leaderboard(board: "Board") -> None:
    """The part of a leaderboard that is about unseen workers."""
    from rich.console import Console
    from rich.table import Table

    title = f"{board['pairs']} pairs, {board['workers']} workers, unseen workers, {board['seeds']} seeds"
    table = Table("model", "accuracy", "95 % CI", "AUC", "Brier", "ECE", "gain over longer", "adjusted p", title=title)
    for row in board["rows"]:
        if row["protocol"] == "worker":
            accuracy, gain = row["accuracy"], row["gain_over_longer_answer"]
            table.add_row(
                cell(row["model"]),
                f"{accuracy['mean']:.3f}",
                f"{accuracy['low']:.3f}-{accuracy['high']:.3f}",
                f"{row['auc']['mean']:.3f}",
                f"{row['brier']:.4f}",
                f"{row['ece']:.3f}",
                f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]",
                f"{row['adjusted']['accuracy']['p']:.3f}",
            )
    # Piped output has no width of its own; 80 columns would break every cell.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


@contextmanager
def bar(name: str) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr if that is a terminal; yields the function to call with the share done (0-1)."""
    with _progress() as progress:
        task = progress.add_task(name, total=1.0)
        yield lambda share: progress.update(task, completed=share)
        progress.update(task, completed=1.0)


@contextmanager
def stage_bars() -> Iterator[Callable[[str, str, float], None]]:
    """One display for all stages, with a line for each that stays on screen."""
    with _progress() as progress:
        tasks = {}

        def on_stage(stage: str, status: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=1.0)
            progress.update(tasks[stage], completed=share, description=f"{stage} (kept)" if status == "kept" else stage)
            if status != "running" and not progress.console.is_terminal:
                progress.console.print(f"{stage}: {status}")

        yield on_stage


def _progress() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:18}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
