"""The files that raters hand back: checked line by line, and joined with the key."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.human.questions import CLAIM_FIELDS, COMPARISON, FIELDS, SCALES, SUPPORT
from ifllm_hub.evaluation.human.task import KEY
from ifllm_hub.evaluation.tables import RATINGS, read_table
from ifllm_hub.terms import SIDES

_IDS = ("task_id", "item_id", "rater_id")


@dataclass(frozen=True)
class _Line:
    """One row of a file: `place` is the file and the line it begins on, for error messages."""

    place: str
    values: dict[str, str]

    def wrong(self, what: str) -> IfllmError:
        return IfllmError(f"{self.place}: {what}")


def import_ratings(key: Path, files: Sequence[Path]) -> pl.DataFrame:
    """RATINGS from what raters handed back, in the order of the key: by rater, then as shown.

    A row is what the page downloads for a finished item, or a filled-in row of `sheet.csv`: UTF-8 CSV with the columns
    `task_id`, `item_id`, `rater_id` and FIELDS, others are ignored. Items that nobody rated are not an error.

    Args:
        key: the task's `key.parquet`.

    Raises:
        IfllmError: the key or a file cannot be read or lacks a column; or, with its line, a row belongs to another
            task, or to an item or rater that the key does not have, occurs twice, lacks an answer or has one that is
            not offered.
    """
    keys = read_table(key, KEY)
    known = {(row["item_id"], row["rater_id"]): row for row in keys.iter_rows(named=True)}
    task_id = keys["task_id"][0]
    seen: dict[tuple[str, str], str] = {}
    rows = []
    for line in (line for file in files for line in _lines(file)):
        who = line.values["item_id"], line.values["rater_id"]
        if line.values["task_id"] != task_id:
            raise line.wrong(
                f"belongs to task {line.values['task_id']!r}, the key to {task_id!r}. Give that task's key."
            )
        if who not in known:
            raise line.wrong(f"item {who[0]!r} of rater {who[1]!r} is not in the key.")
        if who in seen:
            raise line.wrong(
                f"item {who[0]!r} of rater {who[1]!r} was already rated, in {seen[who]}. Keep one of them."
            )
        seen[who] = line.place
        rows.append(_unblinded(line, known[who]))
    if not rows:
        raise IfllmError(f"No ratings in {', '.join(map(str, files)) or 'no file'}. Name the files of the raters.")
    return pl.DataFrame(rows, schema_overrides=RATINGS).sort("rater_id", "position").select(*RATINGS)


def _lines(file: Path) -> Iterator[_Line]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as content:
            reader = csv.reader(content, strict=True)
            head = next(reader, [])
            missing = [name for name in (*_IDS, *FIELDS) if name not in head]
            if missing:
                raise IfllmError(
                    f"{file}: lacks the column {missing[0]!r}. Give the CSV file that the rater's page saved, or the "
                    "filled-in sheet, separated by commas."
                )
            begins = reader.line_num + 1
            for row in reader:
                place = f"{file}, line {begins}"
                begins = reader.line_num + 1
                if len(row) != len(head):
                    raise IfllmError(f"{place}: has {len(row)} fields, but the header has {len(head)}.")
                yield _Line(place, {name: value.strip() for name, value in zip(head, row, strict=True)})
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise IfllmError(f"{file}: cannot be read as UTF-8 CSV ({error}). Ask the rater for the file again.") from error


def _unblinded(line: _Line, key: dict[str, Any]) -> dict[str, Any]:
    """The row of RATINGS, with `position`."""
    model_left = key["order"] == "model_first"
    whose = {"left": "model", "right": "baseline"} if model_left else {"left": "baseline", "right": "model"}
    rated: dict[str, Any] = {}
    for side in SIDES:
        rated |= {f"{name}_{whose[side]}": value for name, value in _rated(line, side).items()}
    comparison = _choice(line, "comparison", COMPARISON)
    return {
        **key,
        **rated,
        "comparison": comparison if model_left else -comparison,
        "comment": line.values["comment"] or None,
    }


def _rated(line: _Line, side: str) -> dict[str, Any]:
    """The ratings of the answer on one side."""
    support = line.values[f"claim_supported_{side}"]
    if support not in SUPPORT:
        raise _not_offered(line, f"claim_supported_{side}", SUPPORT)
    claim = {name: line.values[f"{name}_{side}"] or None for name in CLAIM_FIELDS}
    if SUPPORT[support] is None:
        claim = dict.fromkeys(CLAIM_FIELDS)
    elif None in claim.values():
        name = next(name for name, value in claim.items() if value is None)
        raise line.wrong(f"{name}_{side} is empty, though the claim was looked up ({support}).")
    elif not str(claim["claim_url"]).startswith(("https://", "http://")):
        raise line.wrong(
            f"claim_url_{side} is {claim['claim_url']!r}, which is not the address of a page (https://...)."
        )
    scales = {scale.name: _choice(line, f"{scale.name}_{side}", scale.options) for scale in SCALES}
    return {"claim_supported": SUPPORT[support], **claim, **scales}


def _choice(line: _Line, name: str, options: dict[int, str]) -> int:
    offered = {str(value): value for value in options}
    if line.values[name] not in offered:
        raise _not_offered(line, name, offered)
    return offered[line.values[name]]


def _not_offered(line: _Line, name: str, options: Any) -> IfllmError:
    said = repr(line.values[name]) if line.values[name] else "empty"
    return line.wrong(f"{name} is {said}; it must be one of {', '.join(map(str, options))}.")
