"""`ifllm simulate | build | partition | card | scan | publish | replay | patterns | export-bids`: the dataset."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ifllm_hub.cli.options import (
    AddressOption,
    DatasetArgument,
    EngineOption,
    FolderArgument,
    ForceOption,
    PrivateOption,
    ShardsOption,
)
from ifllm_hub.cli.printing import bar
from ifllm_hub.errors import IfllmError
from ifllm_hub.terminal import say

app = typer.Typer()
PANEL = "Dataset"
_PATHS = typer.Argument(
    metavar="[RELEASE] OUT",
    help="RELEASE: a folder, an archive or a URL; the study's public release if left out. OUT: the dataset folder to "
    "write.",
    show_default=False,
)


@app.command(rich_help_panel=PANEL)
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    workers: Annotated[int, typer.Option(help="Simulated workers.")] = 24,
    questions: Annotated[int, typer.Option(help="Simulated questions.")] = 300,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    known_readers: Annotated[
        bool,
        typer.Option(
            "--known-readers", help="People read in four known ways, with known effects, which the ground truth names."
        ),
    ] = False,
) -> None:
    """Write a simulated release with the layout and the quirks of the real one, and the ground truth beside it."""
    from ifllm_hub.sources.simulation.simulate import simulate_release

    simulate_release(out, workers, questions, seed, known_readers)
    say(f"simulated release: {out / 'dataset'}\nground truth: {out / 'ground_truth.parquet'}")


@app.command(rich_help_panel=PANEL)
def build(
    paths: Annotated[list[str], _PATHS],
    tier: Annotated[
        Literal["coarse", "public", "full"],
        typer.Option(
            help="coarse: two rounded features; public: all features; full: with trajectories, for a gated repo."
        ),
    ] = "full",
    withdraw: Annotated[
        Path | None, typer.Option(help="File of worker ids to leave out, one per line.", show_default=False)
    ] = None,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Leave the privacy report and the card to `ifllm card`.")
    ] = False,
    shards: ShardsOption = 1,
    engine: EngineOption = "local",
    address: AddressOption = None,
) -> None:
    """Build the dataset folder (Parquet, card, manifest, privacy report) from a release.

    The public release is downloaded once, at a pinned commit, and its checksum is verified.
    """
    from ifllm_hub.dataset.build import build_dataset
    from ifllm_hub.dataset.privacy.consent import read_withdrawn
    from ifllm_hub.sources.ifllm.archive import open_release
    from ifllm_hub.sources.ifllm.study import known_workers

    release, out = _release_and_folder("build", paths)
    withdrawn = read_withdrawn(withdraw) if withdraw else frozenset()
    with bar("build") as advance:
        opened = open_release(release, advance=lambda share: advance(share / 3))
        manifest = build_dataset(
            opened,
            Path(out),
            advance=lambda share: advance((1 + 2 * share) / 3),
            tier=tier,
            withdrawn=withdrawn,
            report=not no_report,
            shards=shards,
            engine=engine,
            address=address,
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
    if no_report:
        say(f"without privacy report and card, and not to be published before: ifllm card {release} {out}")
    say(f"dataset: {out}")


@app.command(rich_help_panel=PANEL)
def card(paths: Annotated[list[str], _PATHS]) -> None:
    """Write the privacy report and the card of a folder that was built with --no-report."""
    from ifllm_hub.dataset.build import report_dataset
    from ifllm_hub.sources.ifllm.archive import open_release

    release, folder = _release_and_folder("card", paths)
    with bar("card") as advance:
        opened = open_release(release, advance=advance)
    report_dataset(Path(folder), opened)
    say(f"privacy report and card: {folder}")


def _release_and_folder(command: str, paths: list[str]) -> list[str]:
    """The public release where only a folder is given."""
    from ifllm_hub.sources.ifllm.archive import RELEASE_URL

    if len(paths) > 2:
        raise IfllmError(f"{command} takes [RELEASE] OUT and was given {len(paths)} paths. Quote those with spaces.")
    return [RELEASE_URL, *paths][-2:]


@app.command(rich_help_panel=PANEL)
def partition(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder or address (s3://...) of trajectories, or with data/CONFIG/, in Parquet files of any name.",
            show_default=False,
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder or address to write; a second run resumes.", show_default=False)],
    shards: Annotated[
        int, typer.Option(min=1, help="Of each config; 25,000 to 50,000 readings each.", show_default=False)
    ],
    engine: EngineOption = "local",
    address: AddressOption = None,
) -> None:
    """Lay a dataset out by person, so that all later steps need one shard at a time."""
    from ifllm_hub.dataset.partition import partition_dataset

    with bar("partition") as advance:
        rows = partition_dataset(source, out, shards, engine, address, advance)
    for config, count in rows.items():
        say(f"{config}: {count:,} rows")
    say(f"{shards} shards by person: {out}")


@app.command(rich_help_panel=PANEL)
def scan(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option(help="CSV list to review; keep it private.", show_default=False)],
    show_text: Annotated[bool, typer.Option("--show-text", help="Add the matched text to the list.")] = False,
) -> None:
    """Search queries and answers for personal data; counts go into the privacy report and the card."""
    from ifllm_hub.dataset.scan import scan_dataset

    with bar("scan") as advance:
        findings = scan_dataset(folder, out, show_text, advance)
    for column, entity, count in findings.group_by("column", "entity").len().sort("column", "entity").iter_rows():
        say(f"{column}: {count} {entity}")
    say(f"{findings.height} findings to review: {out}")


@app.command(rich_help_panel=PANEL)
def publish(
    folder: FolderArgument,
    repo_id: Annotated[str, typer.Argument(help="Hub dataset repo: owner/name.", show_default=False)],
    private: PrivateOption = False,
    revision: Annotated[str, typer.Option(help="Branch; created if it does not exist.")] = "main",
    tag: Annotated[str | None, typer.Option(help="Version tag; default: the next of v1, v2, ... on main.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change and write nothing.")] = False,
    allow_breaking: Annotated[bool, typer.Option("--allow-breaking", help="Let columns or configs disappear.")] = False,
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


@app.command(rich_help_panel=PANEL)
def replay(
    question_id: Annotated[int, typer.Argument(help="A question_id of the config trajectories.", show_default=False)],
    dataset: Annotated[str, typer.Option(help="A dataset folder or Hub repo id.", show_default=False)],
    out: Annotated[Path, typer.Option(help="HTML page to write.", show_default=False)],
) -> None:
    """Write a page that plays a recorded reading over the text of the answers."""
    from ifllm_hub.report.replay import write_replay

    say(f"replay: {write_replay(dataset, question_id, out)}")


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


@app.command("export-bids", rich_help_panel=PANEL)
def export_bids(
    dataset: Annotated[str, typer.Argument(help="A dataset folder or Hub repo id.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    screen_resolution: Annotated[
        tuple[int, int] | None, typer.Option(metavar="W H", help="Of everybody's screen, CSS px.", show_default=False)
    ] = None,
    screen_size_cm: Annotated[
        tuple[float, float] | None, typer.Option(metavar="W H", help="Its visible area, cm.", show_default=False)
    ] = None,
    distance_cm: Annotated[
        float | None, typer.Option(help="From the eyes to the screen, cm.", show_default=False)
    ] = None,
) -> None:
    """Write the mouse and gaze recordings as an Eye-Tracking-BIDS folder, without texts.

    Pass what is known of the screen, all of it or nothing: no dataset has it.
    """
    from ifllm_hub.patterns.exports.bids import write_bids
    from ifllm_hub.patterns.exports.samples import Screen

    given = (screen_resolution, screen_size_cm, distance_cm)
    screen = None
    if screen_resolution and screen_size_cm and distance_cm is not None:
        screen = Screen(screen_resolution, screen_size_cm, distance_cm)
    elif any(value is not None for value in given):
        raise IfllmError(
            "A part of the screen does not do. Pass --screen-resolution, --screen-size-cm and --distance-cm together, "
            "or none of them."
        )
    say(f"{write_bids(dataset, out, screen):,} runs: {out}")
