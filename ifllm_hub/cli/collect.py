"""`ifllm collect`: run the collector, write what it recorded as a dataset, delete people's data."""

import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ifllm_hub.cli.options import AddressOption, DatasetArgument, EngineOption, ShardsOption, check_extra
from ifllm_hub.cli.printing import bar, print_arms
from ifllm_hub.collect import CONSENT, LEAST_PEOPLE, NOBODY, PUBLISH_MINUTES
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.terminal import cell, say

if TYPE_CHECKING:
    from ifllm_hub.collect.pseudonyms import Pseudonyms
    from ifllm_hub.collect.store.store import Store

app = typer.Typer(
    name="collect",
    help="Consented mouse trajectories from a chat page.",
    no_args_is_help=True,
    rich_help_panel="Collecting",
)
# Headings in the help of `serve`, `study` and `space`.
STORE, ADDRESS, PUBLISHING = "Where it is stored", "Where it listens", "Publishing what is collected"
CAMERA = "Gaze by camera"

FolderOption = Annotated[
    Path, typer.Option(help="Folder of the secrets and, without --database, of the store.", rich_help_panel=STORE)
]
DatabaseOption = Annotated[
    str | None, typer.Option(help="SQLAlchemy URL; default: SQLite in the folder.", rich_help_panel=STORE)
]
HostOption = Annotated[str, typer.Option(help="Address to listen on.", rich_help_panel=ADDRESS)]
PortOption = Annotated[int, typer.Option(help="Port to listen on.", rich_help_panel=ADDRESS)]
ProxyOption = Annotated[
    bool, typer.Option("--behind-proxy", help="Trust a proxy's X-Forwarded-For.", rich_help_panel=ADDRESS)
]
RepoOption = Annotated[
    str | None,
    typer.Option(
        help="Keep this Hub dataset repo (owner/name) up to date with what is collected.",
        rich_help_panel=PUBLISHING,
    ),
]
MinutesOption = Annotated[
    float,
    typer.Option(help="How often the dataset repo is updated, in minutes.", rich_help_panel=PUBLISHING),
]
SharedOption = Annotated[str, typer.Option(help="Who the data are shared with, for the consent text.")]
LeastOption = Annotated[
    int, typer.Option(min=1, help="Publish nothing of fewer people than this.", rich_help_panel=PUBLISHING)
]
COLLECTED = Path("collected")
_SIGNS = {True: "✓", False: "✗", None: "–"}


@app.command()
def serve(
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Page that may send readings, such as https://chat.example.org; may be repeated."),
    ] = None,
    consent: Annotated[
        list[str] | None,
        typer.Option(help=f"Version of the consent text in use; may be repeated. Default: {CONSENT}."),
    ] = None,
    folder: FolderOption = COLLECTED,
    database: DatabaseOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8765,
    retention_days: Annotated[
        int, typer.Option(help="How many days to keep what was collected; 0: no limit.", rich_help_panel=STORE)
    ] = 365,
    behind_proxy: ProxyOption = False,
    dataset_repo: RepoOption = None,
    publish_minutes: MinutesOption = PUBLISH_MINUTES,
    publish_shards: Annotated[
        int,
        typer.Option(
            min=1, help="Files of each split of a config; only changed ones are sent.", rich_help_panel=PUBLISHING
        ),
    ] = 1,
    least_people: LeastOption = LEAST_PEOPLE,
) -> None:
    """Run the collector's server until it is stopped."""
    _check_installed()
    from ifllm_hub.collect.server.app import serve, startup_message
    from ifllm_hub.collect.settings import Settings

    settings = Settings(
        folder,
        database=database,
        origins=tuple(origin or ()),
        consents=tuple(consent or (CONSENT,)),
        retention_days=retention_days or None,
        dataset_repo=dataset_repo,
        publish_minutes=publish_minutes,
        publish_shards=publish_shards,
        least_people=least_people,
    )
    say(startup_message(settings, host, port))
    serve(settings, host, port, behind_proxy)


@app.command()
def export(
    out: Annotated[Path, typer.Option(help="Dataset folder to write.", show_default=False)],
    folder: FolderOption = COLLECTED,
    database: DatabaseOption = None,
    least_people: Annotated[int, typer.Option(min=1, help="Write nothing of fewer people than this.")] = 1,
    shards: ShardsOption = 1,
    engine: EngineOption = "local",
    address: AddressOption = None,
) -> None:
    """Write what was collected, from everybody whose consent stands, as a dataset folder.

    Shards in which nothing changed are taken over from an earlier export in the same place.
    """
    _check_installed()
    from ifllm_hub.collect.export.dataset import export_dataset

    with _opened(folder, database) as (store, pseudonyms), bar("export") as advance:
        manifest = export_dataset(store, out, pseudonyms, least_people, shards, engine, address, advance)
    questions = sum(manifest["questions"].values())
    say(f"{questions} questions of {manifest['people']} people\ndataset: {out}")


@app.command()
def compare(
    dataset: DatasetArgument,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="An arm to compare, the control first; to be repeated. Default: all, by name."),
    ] = None,
    unit: Annotated[Literal["person", "question"], typer.Option(help="What was assigned to an arm.")] = "person",
    out: Annotated[Path | None, typer.Option(help="Folder for the comparison as JSON and Markdown.")] = None,
) -> None:
    """Compare the arms of an experiment: ratings, thumbs and more, with intervals over people."""
    from ifllm_hub.collect.experiment.compare import compare_arms
    from ifllm_hub.collect.experiment.outcomes import read_outcomes
    from ifllm_hub.collect.experiment.page import write_comparison

    comparison = compare_arms(read_outcomes(dataset), arm or (), unit)
    print_arms(comparison)
    if out is not None:
        write_comparison(comparison, dataset, out)
        say(f"comparison: {out}")


@app.command()
def delete(
    person: Annotated[str, typer.Argument(help="Your own id of the person.", show_default=False)],
    folder: FolderOption = COLLECTED,
    database: DatabaseOption = None,
) -> None:
    """Delete everything about a person, in the store and in exported folders."""
    _check_installed()
    from ifllm_hub.collect.export.upkeep import delete_person

    with _opened(folder, database) as (store, pseudonyms):
        for line in delete_person(store, pseudonyms, person):
            say(line)


@app.command()
def retention(
    days: Annotated[int, typer.Option(min=1, help="Delete what is older.", show_default=False)],
    folder: FolderOption = COLLECTED,
    database: DatabaseOption = None,
) -> None:
    """Delete from the store what is older than this many days, and finish interrupted deletions."""
    _check_installed()
    from ifllm_hub.collect.export.upkeep import apply_retention, erase_exports

    with _opened(folder, database) as (store, _):
        say(", ".join(f"{count} {table}" for table, count in apply_retention(store, days).items()) + " deleted")
        for line in erase_exports(store):
            say(line)


@app.command()
def check(
    url: Annotated[str, typer.Argument(help="A page of yours, such as https://chat.example.org/.", show_default=False)],
) -> None:
    """Open a page, check whether its recording works, and say what to do where it does not. Stores nothing."""
    _check_installed()
    from rich.console import Console
    from rich.table import Table

    from ifllm_hub.collect.check import check_page

    findings = check_page(url)
    table = Table("check", "result", "what to do", show_lines=True)
    for found in findings:
        table.add_row(f"{_SIGNS[found.ok]} {found.check}", cell(found.said), cell(found.todo))
    # Piped output has no width of its own; 80 columns would break every cell.
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if any(found.ok is False for found in findings):
        raise typer.Exit(1)


ModelOption = Annotated[
    list[str] | None,
    typer.Option(help="NAME@https://host/v1, hub:OWNER/NAME, local:smollm2-135m (default) or echo; may be repeated."),
]
ProtocolOption = Annotated[str, typer.Option(help="paper, pairwise or pointwise.")]
ContactOption = Annotated[str, typer.Option(help="Who is responsible, for the consent text.", show_default=False)]


@app.command()
def study(
    contact: ContactOption,
    model: ModelOption = None,
    protocol: ProtocolOption = "paper",
    folder: FolderOption = COLLECTED,
    database: DatabaseOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 7860,
    origin: Annotated[
        str | None,
        typer.Option(
            help="Address of the page, if a proxy in front changes the host of requests.", rich_help_panel=ADDRESS
        ),
    ] = None,
    behind_proxy: ProxyOption = False,
    camera: Annotated[
        Path | None,
        typer.Option(
            help="Estimate gaze by the camera of people who agree to it: file of the npm package "
            "@mediapipe/face_mesh@0.4.1633559619, from `npm pack`.",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    camera_required: Annotated[
        bool, typer.Option("--camera-required", help="Nobody takes part without a camera.", rich_help_panel=CAMERA)
    ] = False,
    dataset_repo: RepoOption = None,
    publish_minutes: MinutesOption = PUBLISH_MINUTES,
    least_people: LeastOption = LEAST_PEOPLE,
    shared_with: SharedOption = NOBODY,
) -> None:
    """Run a study in which people chat, rate and are recorded, with their consent, until it is stopped."""
    _check_installed()
    from ifllm_hub.collect.settings import Settings
    from ifllm_hub.collect.study.app import run_study
    from ifllm_hub.collect.study.models import DEFAULT_MODELS
    from ifllm_hub.collect.study.settings import StudySettings

    address = origin or f"http://{f'[{host}]' if ':' in host else host}:{port}"
    collector = Settings(
        folder,
        database=database,
        origins=(origin,) if origin else (),
        dataset_repo=dataset_repo,
        publish_minutes=publish_minutes,
        least_people=least_people,
    )
    models = tuple(model or DEFAULT_MODELS)
    settings = StudySettings(
        collector,
        models,
        protocol,
        camera=camera,
        camera_required=camera_required,
        contact=contact,
        shared_with=shared_with,
    )
    say(f"study: {address}")
    run_study(settings, host, port, behind_proxy)


@app.command()
def space(
    contact: ContactOption,
    out: Annotated[Path, typer.Option(help="Folder of the Space.", show_default=False)],
    model: ModelOption = None,
    protocol: ProtocolOption = "paper",
    push: Annotated[str | None, typer.Option(help="Push it to this Space, owner/name; a new one is private.")] = None,
    dataset_repo: RepoOption = None,
    publish_minutes: MinutesOption = PUBLISH_MINUTES,
    least_people: LeastOption = LEAST_PEOPLE,
    shared_with: SharedOption = NOBODY,
) -> None:
    """Write the study as a Hugging Face Space, and push it in one commit."""
    _check_installed()
    from ifllm_hub.collect.settings import Settings
    from ifllm_hub.collect.study.models import DEFAULT_MODELS
    from ifllm_hub.collect.study.settings import StudySettings
    from ifllm_hub.collect.study.space import push_space, write_space

    collector = Settings(
        COLLECTED, dataset_repo=dataset_repo, publish_minutes=publish_minutes, least_people=least_people
    )
    models = tuple(model or DEFAULT_MODELS)
    settings = StudySettings(collector, models, protocol, contact=contact, shared_with=shared_with)
    write_space(settings, out)
    say(f"space: {out}")
    if push is not None:
        say(f"pushed: {push_space(out, push)}")


@contextmanager
def _opened(folder: Path, database: str | None) -> "Iterator[tuple[Store, Pseudonyms]]":
    """The store of a collector that has been run before."""
    from sqlalchemy.exc import SQLAlchemyError

    from ifllm_hub.collect.pseudonyms import Pseudonyms
    from ifllm_hub.collect.settings import SECRETS_FILE, Secrets, Settings
    from ifllm_hub.collect.store.store import Store

    if database is None and not (folder / SECRETS_FILE).is_file():
        raise IfllmError(f"{folder}: no collector has been run here. Name its --folder, or its --database.")
    with closing(Store(Settings(folder, database=database).url)) as store:
        try:
            yield store, Pseudonyms(Secrets.load(folder).pseudonym)
        except SQLAlchemyError as error:
            raise IfllmError(
                f"The store cannot be read or written now ({first_line(error)}). Run this again when it can; it "
                f"continues where it stopped."
            ) from error


def _check_installed() -> None:
    check_extra("The collector", "collect")
