"""`ifllm`: one command a stage, and `ifllm run` for all of them."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ifllm_hub.cli.collect import app as collect_app
from ifllm_hub.errors import IfllmError
from ifllm_hub.terminal import cell, given_words, say, say_error

if TYPE_CHECKING:
    import polars as pl
    from rich.progress import Progress

app = typer.Typer(
    name="ifllm",
    help="How people read LLM answers, as a dataset, a reward model and preference-tuned LLMs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(collect_app)

ReleaseArgument = Annotated[
    str, typer.Argument(help="The release: a folder, an archive, or a URL.", show_default=False)
]
DatasetArgument = Annotated[str, typer.Argument(help="A dataset folder or Hub repo id.", show_default=False)]
FolderArgument = Annotated[Path, typer.Argument(help="A dataset folder.", show_default=False)]
PrivateOption = Annotated[bool, typer.Option("--private", help="Make a new repo private.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace all of a repo that holds something else.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Fold and forest seeds; claims want 20.")]
AllWorkersOption = Annotated[bool, typer.Option(help="Keep the workers on the authors' exclusion list.")]
WorkersOption = Annotated[int, typer.Option(help="Simulated workers.")]
QuestionsOption = Annotated[int, typer.Option(help="Simulated questions.")]


def main() -> None:
    """Entry point: a clear error is one line on stderr and exit status 2."""
    try:
        app(given_words())
    except IfllmError as error:
        say_error(error)
        sys.exit(2)


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    workers: WorkersOption = 24,
    questions: QuestionsOption = 300,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
) -> None:
    """Write a simulated release: the layout and the quirks of the real one, with the truth beside it."""
    from ifllm_hub.sources.simulation.simulate import simulate_release

    simulate_release(out, workers, questions, seed)
    say(f"simulated release: {out / 'dataset'}\nwhat is true about it: {out / 'ground_truth.parquet'}")


@app.command()
def build(
    release: ReleaseArgument,
    out: Annotated[Path, typer.Argument(help="Dataset folder to write.", show_default=False)],
    tier: Annotated[
        Literal["coarse", "public", "full"],
        typer.Option(help="coarse: two rounded features; public: all features; full: with trajectories, to be gated."),
    ] = "full",
    withdraw: Annotated[
        Path | None, typer.Option(help="Worker ids to leave out, one a line.", show_default=False)
    ] = None,
) -> None:
    """Build the dataset folder (Parquet, card, manifest, privacy report) from a release."""
    from ifllm_hub.dataset.build import build_dataset
    from ifllm_hub.dataset.privacy.report import known_workers, read_withdrawn
    from ifllm_hub.sources.ifllm.archive import open_release

    withdrawn = read_withdrawn(withdraw) if withdraw else frozenset()
    with _bar("build") as advance:
        opened = open_release(release, advance=lambda share: advance(share / 3))
        manifest = build_dataset(
            opened, out, advance=lambda share: advance((1 + 2 * share) / 3), tier=tier, withdrawn=withdrawn
        )
    rel = manifest["lines"]["rel"]
    say(
        f"{manifest['questions']['all']['questions']:,} questions; {rel['lines']:,} rel lines = "
        f"{rel['ticks']:,} parsed + {rel['quarantined']:,} quarantined + {rel['unaccounted']:,} unaccounted"
    )
    if withdrawn:
        gone = manifest["withdrawn"]
        say(f"withdrawn: {gone['workers']} of {gone['listed']} listed workers, {gone['questions']} questions left out")
        if unknown := sorted(withdrawn - known_workers(opened)):
            which = f"{len(unknown)} ids are not in this release (the first: {unknown[0]})"
            say(f"warning: {withdraw}: {which}. Check them.")
    say(f"dataset: {out}")


@app.command()
def scan(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option(help="CSV list to review; keep it private.", show_default=False)],
    show_text: Annotated[bool, typer.Option("--show-text", help="Add the matched text to the list.")] = False,
) -> None:
    """Search queries and answers for personal data; counts go into the privacy report and the card."""
    from ifllm_hub.dataset.privacy.report import scan_dataset

    with _bar("scan") as advance:
        findings = scan_dataset(folder, out, show_text, advance)
    for column, entity, count in findings.group_by("column", "entity").len().sort("column", "entity").iter_rows():
        say(f"{column}: {count} {entity}")
    say(f"{findings.height} findings to review: {out}")


@app.command()
def publish(
    folder: FolderArgument,
    repo_id: Annotated[str, typer.Argument(help="Hub dataset repo: owner/name.", show_default=False)],
    private: PrivateOption = False,
    revision: Annotated[str, typer.Option(help="Branch; made where there is none.")] = "main",
    tag: Annotated[str | None, typer.Option(help="Version tag; default: the next of v1, v2, ... on main.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")] = False,
    allow_breaking: Annotated[bool, typer.Option("--allow-breaking", help="Columns or configs may vanish.")] = False,
    squash: Annotated[
        bool, typer.Option("--squash", help="Delete older versions for good: history, tags and their large files.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Publish a dataset folder on the Hub: one commit that is read back and tagged; none if nothing changed."""
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from ifllm_hub.dataset.publishing import publish as hub

    if not sys.stderr.isatty():
        disable_progress_bars()
    with hub.planned(folder, repo_id, revision, force) as plan:
        say(str(plan))
        for warning in plan.warnings(squash):
            say(f"warning: {warning}")
        if dry_run:
            return
        commit, version = hub.publish(plan, private, tag, allow_breaking, squash=squash)
    say(f"{'published' if plan.operations else 'unchanged'}: {repo_id} at {version or commit}")


@app.command()
def reward(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Model folder to write.", show_default=False)],
    seeds: SeedsOption = 20,
    all_workers: AllWorkersOption = False,
) -> None:
    """Train the reward model and judge it by the protocol; prints the leaderboard for workers never seen."""
    from ifllm_hub.reward.train import train_reward

    with _bar("reward") as advance:
        board = train_reward(dataset, out, seeds, all_workers, n_jobs=-1, advance=advance)
    _print_leaderboard(board)
    say(f"reward model: {out}")


@app.command()
def leaderboard(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder of the results; a second run resumes there.", show_default=False)],
    seeds: SeedsOption = 20,
    text_model: Annotated[
        str | None,
        typer.Option(help="Text encoder: a folder or Hub id; default: all-MiniLM-L6-v2 from its PyPI package."),
    ] = None,
    all_workers: AllWorkersOption = False,
) -> None:
    """Judge all models and baselines by the full protocol; writes tables (Markdown, JSON) and figures."""
    from ifllm_hub.reward.protocol.full_leaderboard import PAGE_FILE, run_leaderboard

    with _bar("leaderboard") as advance:
        board = run_leaderboard(dataset, out, seeds, text_model, all_workers, n_jobs=-1, advance=advance)
    _print_leaderboard(board)
    if board["left_out"]:
        say(f"left out, because there is no text encoder (--text-model): {', '.join(board['left_out'])}")
    say(f"leaderboard: {out / PAGE_FILE}")


@app.command()
def publish_reward(
    folder: Annotated[Path, typer.Argument(help="A model folder.", show_default=False)],
    repo_id: Annotated[str, typer.Argument(help="Hub model repo: owner/name.", show_default=False)],
    private: PrivateOption = False,
    force: ForceOption = False,
) -> None:
    """Publish a reward model on the Hub in one commit; none if nothing changed."""
    from ifllm_hub.reward.model.pretrained import push_reward

    say(f"published: {repo_id} at {push_reward(folder, repo_id, private, force)}")


@app.command()
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

    _print_label_sources(agreements(write_preferences(dataset, all_workers, labels, name)))
    say(f"preferences: {dataset / 'data'}, a config a label source")


@app.command()
def align(
    recipe: Annotated[str, typer.Option(help="A folder of training/recipes, or a YAML file.", show_default=False)],
    dataset: Annotated[str, typer.Option(help="A dataset folder or Hub repo id.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint; a second run resumes.", show_default=False)],
    stage: Annotated[
        Literal["sft", "dpo", "dpo-reference", "kto"],
        typer.Option(help="Which YAML file of the recipe; dpo-reference: as the paper's released code."),
    ] = "dpo",
    labels: Annotated[
        str | None, typer.Option(help="Whose labels: see `ifllm label`; default: as the recipe says, else forest.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Start from this folder or model; default: as the recipe says.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps; default: as the recipe says.")] = None,
    processes: Annotated[int, typer.Option(help="Training processes, one a GPU.")] = 1,
    sharding: Annotated[
        Literal["ddp", "fsdp2", "zero2", "zero3"], typer.Option(help="How the weights are spread over processes.")
    ] = "ddp",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and do not run it.")] = False,
) -> None:
    """Train a language model: prints the `accelerate launch` line, runs it and shows its progress."""
    import shlex

    from ifllm_hub.align.runs.launch import check_machine, command_line, launch

    given = {"label_source": labels, "policy": policy, "max_steps": steps}
    overrides = {name: value for name, value in given.items() if value is not None}
    command = command_line(recipe, dataset, out, overrides, processes, stage, sharding)
    say(shlex.join(command))
    if dry_run:
        return
    check_machine(processes, sharding)
    with _bar(stage) as advance:
        launch(command, out, on_progress=lambda step, of, loss: advance(step / of))
    say(f"checkpoint: {out}")


@app.command()
def compare_labels(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option(help="Folder of the runs; a second run resumes there.", show_default=False)],
    recipe: Annotated[
        str, typer.Option(help="A recipe with the stages sft and dpo, for all label sources.")
    ] = "smollm2-135m-labels",
    seeds: Annotated[int, typer.Option(min=1, help="Training seeds.")] = 3,
    jobs: Annotated[int, typer.Option(min=1, help="Training processes side by side.")] = 1,
) -> None:
    """Tune a policy on each label source, all else equal, and measure whether it prefers what unseen workers prefer."""
    from ifllm_hub.align.compare_labels import Comparison, compare_labels
    from ifllm_hub.align.labels_table import write_labels_page

    comparison = Comparison(dataset, recipe, out, seeds, jobs)
    with _bar("compare labels") as advance:
        margins = compare_labels(comparison, advance)
    say(f"labels: {write_labels_page(comparison, margins)}")


@app.command()
def replay(
    question_id: Annotated[int, typer.Argument(help="Of the config trajectories.", show_default=False)],
    dataset: Annotated[str, typer.Option(help="A dataset folder or Hub repo id.", show_default=False)],
    out: Annotated[Path, typer.Option(help="HTML page to write.", show_default=False)],
) -> None:
    """Write a page that plays a recorded reading over the text of the answers."""
    from ifllm_hub.report.replay import write_replay

    say(f"replay: {write_replay(dataset, question_id, out)}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)],
) -> None:
    """Write report.html of a run folder."""
    from ifllm_hub.report.report import build_report

    say(f"report: {build_report(run)}")


@app.command(name="run")
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
    with _stage_bars() as on_stage:
        places = run(settings, out, on_stage)
    for name, path in places.items():
        say(f"{name + ':':14}{path}")


def _print_label_sources(counts: "pl.DataFrame") -> None:
    from rich.console import Console
    from rich.table import Table

    from ifllm_hub.plot_style import wilson

    title = "label sources, and how often they are right by the worker's own label"
    table = Table("source", "split", "pairs", "mean flip prob.", "agreement", "95 % CI", title=title)
    for row in counts.iter_rows(named=True):
        cells = [row["label_source"], row["split"], str(row["pairs"]), f"{row['flip_prob']:.3f}"]
        if row["rated"] and row["label_source"] != "explicit":
            low, high = wilson(row["agreeing"], row["rated"])
            cells += [f"{row['agreeing'] / row['rated']:.3f} of {row['rated']}", f"{low:.3f}-{high:.3f}"]
        table.add_row(*map(cell, cells))
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _print_leaderboard(board: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{board['pairs']} pairs, {board['workers']} workers, unseen workers, {board['seeds']} seeds"
    table = Table("model", "accuracy", "95 % CI", "AUC", "Brier", "ECE", "gain over longer", title=title)
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
            )
    # Piped output has no width of its own; 80 columns would break every cell.
    Console(width=None if sys.stdout.isatty() else 120).print(table)


@contextmanager
def _bar(name: str) -> Iterator[Callable[[float], None]]:
    with _progress() as progress:
        task = progress.add_task(name, total=1.0)
        yield lambda share: progress.update(task, completed=share)
        progress.update(task, completed=1.0)


@contextmanager
def _stage_bars() -> Iterator[Callable[[str, str, float], None]]:
    """One display for all stages: a line each, kept on screen."""
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
