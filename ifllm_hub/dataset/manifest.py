"""manifest.json: what a dataset folder was made from, and what became of all that came in."""

import json
from pathlib import Path
from typing import Literal, NotRequired, TypedDict, final

import polars as pl

from ifllm_hub import __version__
from ifllm_hub.documents import checked
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, write_atomically
from ifllm_hub.sources.ifllm.accounts import Balance
from ifllm_hub.sources.ifllm.archive import RELEASE_DIGEST, Release
from ifllm_hub.sources.ifllm.questions import TableCounts
from ifllm_hub.sources.source import Facts

MANIFEST = "manifest.json"
# What one source alone has of its questions, by `question_id`, in a folder that was imported.
OWN_COLUMNS = "source.parquet"
# Configs that are built from a release, by tier. `full` is meant for a gated repo.
TIERS = {
    "coarse": ("pairwise", "pointwise", "coarse"),
    "public": ("pairwise", "pointwise", "features"),
    "full": ("pairwise", "pointwise", "trajectories", "features"),
}

# What a manifest counts of the questions.
COUNTED = {
    **dict.fromkeys(("worker_id", "conversation_id", "mode"), pl.String),
    **dict.fromkeys(("excluded_worker", "has_mouse", "has_gaze"), pl.Boolean),
}

# Where the readings of a dataset are from; "unknown" where no manifest says so.
Origin = Literal["study", "simulated", "collected", "imported", "unknown"]


class Scanner(TypedDict):
    """The tool with its version, and the entities that it recognizes."""

    tool: str
    entities: list[str]


class EntityCount(TypedDict):
    """How many matches of an entity a column has."""

    column: str
    entity: str
    found: int


class FoundText(Scanner):
    """What a search of a dataset's texts found, without the texts."""

    cannot_find: str
    texts: int
    found: list[EntityCount]


class WithdrawnCounts(TypedDict):
    """How many ids were listed, how many of them are in the release, and how many questions were theirs."""

    listed: int
    workers: int
    questions: int


class NotRead(TypedDict):
    """How many recorded conversations were not read at all, by reason."""

    withdrawn: int
    without_consent: int


class LeftOut(TypedDict):
    """Who is left out of a dataset, without their ids."""

    withdrawn: WithdrawnCounts
    conversations_not_read: NotRead


class Size(TypedDict):
    """Numbers of questions, workers and conversations."""

    questions: int
    workers: int
    conversations: int


class QuestionCounts(TypedDict):
    """The questions of a dataset: all, by mode, and those that were read."""

    all: Size
    pairwise: Size
    pointwise: Size
    with_on_text_behavior: Size
    with_on_text_behavior_without_excluded_workers: Size
    share_of_five_largest_workers: float


@final
class Built(LeftOut, Balance):
    """The manifest of a dataset that was built from a release."""

    tier: str
    ifllm_hub: str
    release_sha256: str
    is_the_released_data: bool
    tables: TableCounts
    questions: QuestionCounts


class Received(TypedDict):
    """How many of a kind came in; further keys count them by what became of them."""

    received: int


# How many questions of each mode.
ByMode = dict[Literal["pairwise", "pointwise"], int]


@final
class Collected(TypedDict):
    """The manifest of a collector's export."""

    collected: bool
    ifllm_hub: str
    tier: str
    people: int
    conversations: int
    questions: ByMode
    erased_later: int
    ticks: Received
    # Missing from the oldest exports, which withdrawals must reach too.
    views: NotRequired[Received]
    batches_of_wrong_clocks: NotRequired[int]
    free_text: NotRequired[FoundText]


@final
class Imported(TypedDict):
    """The manifest of somebody else's recordings.

    Attributes:
        received: how many of each kind of thing came in, by what became of them: "<things>: <status>".
    """

    imported: Facts
    ifllm_hub: str
    tier: str
    people: int
    conversations: int
    questions: ByMode
    received: dict[str, int]
    free_text: NotRequired[FoundText]


Manifest = Built | Collected | Imported


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a dataset folder: only that of a build has the key `release_sha256`, only that of a collector's
    export has `collected`, and only that of an import has `imported`.

    Raises:
        IfllmError: it is missing or damaged.
    """
    path, advice = folder / MANIFEST, "Build the dataset again."
    content = read_json(path)
    tier = checked(content, _Tiered, path, advice)["tier"]
    if tier not in TIERS:
        raise IfllmError(f"{path}: there is no tier '{tier}'. Choose one of: {', '.join(TIERS)}.")
    if "collected" in content:
        return checked(content, Collected, path, advice)
    if "imported" in content:
        return checked(content, Imported, path, advice)
    return checked(content, Built, path, advice)


def data_origin(dataset: str | Path, revision: str | None = None) -> Origin:
    """Where the readings of a dataset folder or Hub repo are from; a changed release counts as simulated.

    Raises:
        IfllmError: the manifest of a folder is missing or damaged.
    """
    place = Path(dataset) / MANIFEST
    if not Path(dataset).is_dir():
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            place = Path(hf_hub_download(str(dataset), MANIFEST, repo_type="dataset", revision=revision))
        except EntryNotFoundError:
            return "unknown"
    manifest = read_json(place)
    for origin in ("collected", "imported"):
        if origin in manifest:
            return origin
    return "study" if manifest.get("is_the_released_data", True) else "simulated"


class _Tiered(TypedDict):
    tier: str


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write it indented, but with one line for each entry of a list.

    Raises:
        IfllmError: the folder cannot be written.
    """
    head = {key: value for key, value in manifest.items() if not isinstance(value, list)}
    text = json.dumps(head, indent=2)[:-2]
    for key, value in manifest.items():
        if isinstance(value, list):
            entries = ",\n    ".join(json.dumps(entry) for entry in value)
            text += f',\n  "{key}": [\n    {entries}\n  ]'
    write_atomically(folder / MANIFEST, text + "\n}\n")


def built_manifest(
    tier: str, left_out: LeftOut, release: Release, tables: TableCounts, questions: pl.DataFrame, accounts: Balance
) -> Built:
    """The manifest of a build.

    Args:
        questions: `COUNTED` of those that are written.
    """
    digest = release.digest()
    return {
        "tier": tier,
        **left_out,
        "ifllm_hub": __version__,
        "release_sha256": digest,
        "is_the_released_data": digest == RELEASE_DIGEST,
        "tables": tables,
        "questions": _question_counts(questions),
        **accounts,
    }


def _question_counts(questions: pl.DataFrame) -> QuestionCounts:
    largest = questions["worker_id"].value_counts(sort=True)["count"].head(5)
    behavior = questions.filter(pl.col("has_mouse") | pl.col("has_gaze"))
    return {
        "all": _size(questions),
        "pairwise": _size(questions.filter(pl.col("mode") == "pairwise")),
        "pointwise": _size(questions.filter(pl.col("mode") == "pointwise")),
        "with_on_text_behavior": _size(behavior),
        "with_on_text_behavior_without_excluded_workers": _size(behavior.filter(~pl.col("excluded_worker"))),
        "share_of_five_largest_workers": int(largest.sum()) / questions.height,
    }


def _size(questions: pl.DataFrame) -> Size:
    return {
        "questions": questions.height,
        "workers": questions["worker_id"].n_unique(),
        "conversations": questions["conversation_id"].n_unique(),
    }
