"""The accounts of a release: what became of every line and tick, checked and summed up for the manifest."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict, cast

import polars as pl

from ifllm_hub.errors import IfllmError


@dataclass
class Accounts:
    """What became of every line and tick.

    Attributes:
        files: one row per file: `file` ("worker/task/name"), `lines`, `ticks`, `duplicates`, `quarantined`.
        quarantine: `file`, `line` (from 1), `reason`.
        ticks: counts of ticks by what became of them.
        carets: per schema version, modality and side, how many recorded carets matched the answers' texts, and how.
        lines_missing: ticks of a conversation for which a file has no line, summed over all files.
    """

    files: list[pl.DataFrame] = field(default_factory=list)
    quarantine: list[pl.DataFrame] = field(default_factory=list)
    ticks: list[pl.DataFrame] = field(default_factory=list)
    carets: list[pl.DataFrame] = field(default_factory=list)
    lines_missing: int = 0

    def quarantined(self) -> pl.DataFrame:
        """The lines that were not read: `file`, `line` (from 1), `reason`, by file and line."""
        return pl.concat(self.quarantine).sort("file", "line")


class LineCounts(TypedDict):
    """What became of lines: each is a tick, repeats another line, or is quarantined; none may be `unaccounted`."""

    lines: int
    ticks: int
    duplicates: int
    quarantined: int
    unaccounted: int


class FileCounts(LineCounts):
    """The lines of one file: "worker/task/name"."""

    file: str


class KindCounts(LineCounts):
    """The lines of all files of a kind, and how many files."""

    files: int


class TickCounts(TypedDict):
    """All ticks, what became of them, and `lines_missing` (see `Accounts`)."""

    ticks: int
    on_a_question: int
    before_the_first_answer: int
    of_an_unanswered_question: int
    conversation_without_questions: int
    weeks_after_the_last_answer: int
    lines_missing: int


class CaretCounts(TypedDict):
    """How many recorded carets of a schema version, modality and side have a given status."""

    schema_version: str
    modality: str
    side: str
    status: str
    ticks: int


class Balance(TypedDict):
    """The accounts of a release, as the manifest has them."""

    lines: dict[Literal["abs", "rel"], KindCounts]
    quarantine_reasons: dict[str, int]
    ticks: TickCounts
    carets: list[CaretCounts]
    files: list[FileCounts]


def together(parts: Iterable[Accounts]) -> Accounts:
    """The accounts of all partitions as one."""
    whole = Accounts()
    for part in parts:
        whole.files += part.files
        whole.quarantine += part.quarantine
        whole.ticks += part.ticks
        whole.carets += part.carets
        whole.lines_missing += part.lines_missing
    return whole


def check_read(accounts: Accounts, root: Path) -> None:
    """Refuse a release whose format is not the one read here, or whose parts do not belong together.

    Args:
        root: the release's folder.

    Raises:
        IfllmError: nothing was read, most lines could not be read, or no reading can be matched to an answer.
    """
    place = root / "user_behavior"
    if not accounts.files:
        raise IfllmError(f"{place}: nothing here belongs to a worker who consented. Do these files match these tables?")
    lines, quarantine = pl.concat(accounts.files)["lines"].sum(), accounts.quarantined()
    if 2 * quarantine.height > lines:
        reason = quarantine["reason"].mode().sort()[0]
        file, line, _ = quarantine.filter(reason=reason).row(0)
        raise IfllmError(
            f"{place}: {quarantine.height:,} of {lines:,} lines cannot be read (most often: {reason}; the first of "
            f"these in {file}, line {line}). Give the files as the study's site writes them."
        )
    ticks = pl.concat(accounts.ticks).sum().row(0, named=True)
    if not ticks.pop("on_a_question"):
        statuses = ", ".join(f"{n:,} {status.replace('_', ' ')}" for status, n in ticks.items() if status != "ticks")
        raise IfllmError(
            f"{place}: none of {ticks['ticks']:,} ticks falls after an answer ({statuses}). Do these files belong to "
            "these tables, and are query_timestamp and the epochs both in UTC?"
        )
    carets = pl.concat(accounts.carets)
    if carets.height and not carets["status"].is_in(["matched", "repaired"]).any():
        raise IfllmError(
            f"{place}: none of {carets['ticks'].sum():,} recorded windows occurs in an answer. Do these files belong "
            "to these tables?"
        )


def balance(accounts: Accounts, root: Path) -> Balance:
    """The sums of the accounts, after checking that those of each file balance.

    Args:
        root: the release's folder.

    Raises:
        IfllmError: a line of a file is not accounted for.
    """
    files = pl.concat(accounts.files).sort("file")
    files = files.with_columns(
        unaccounted=pl.col("lines") - pl.col("ticks") - pl.col("duplicates") - pl.col("quarantined")
    )
    wrong = files.filter(pl.col("unaccounted") != 0)
    if wrong.height:
        raise IfllmError(f"{root}: {wrong['file'][0]} does not balance: {wrong.row(0, named=True)}.")
    kind = pl.col("file").str.extract(r"/(abs|rel)_[^/]*$")
    totals = files.group_by(kind.alias("kind")).agg(pl.exclude("file").sum(), files=pl.len()).sort("kind")
    reasons = pl.concat(accounts.quarantine).group_by("reason").len("lines").sort("reason")
    carets = (
        pl.concat(accounts.carets)
        .group_by("schema_version", "modality", "side", "status")
        .agg(pl.col("ticks").sum())
        .sort("schema_version", "modality", "side", "status")
    )
    summed = {
        "lines": {row.pop("kind"): row for row in totals.iter_rows(named=True)},
        "quarantine_reasons": dict(reasons.iter_rows()),
        "ticks": {**pl.concat(accounts.ticks).sum().row(0, named=True), "lines_missing": accounts.lines_missing},
        "carets": carets.to_dicts(),
        "files": files.to_dicts(),
    }
    return cast(Balance, summed)  # Polars rows are untyped; readers of the manifest check them
