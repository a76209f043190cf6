"""A release with secrets in it, and what of them a dataset folder may hold."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ifllm_hub.sources.ifllm.archive import Release

UNKNOWN = "worker_nobody"
SECRET = "zqx"  # in no text of the simulation
DEMOGRAPHICS = ("age", "location", "education", "race", "gender", "inserted_at")
FREE_TEXT = ("copy_sentence", "summary", "feedback")


class Marked(NamedTuple):
    """A release with secrets in it, in which one worker refused and another has withdrawn."""

    release: Release
    refused: str
    withdrawn: str


def rewrite(path: Path, change: Callable[[int, dict[str, str]], dict[str, str]]) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(change(number, row) for number, row in enumerate(rows))


def with_secrets(number: int, row: dict[str, str], columns: tuple[str, ...]) -> dict[str, str]:
    return row | {name: f"{SECRET}-{name}-{number}" for name in columns}


def with_secret_windows(content: str) -> str:
    """A tenth of the windows become something that is on no screen."""
    lines = content.splitlines()
    for number in range(0, len(lines), 10):
        before, quote, rest = lines[number].partition('"')
        if quote:
            lines[number] = f'{before}"{SECRET} window"{rest.rpartition(chr(34))[2]}'
    return "\n".join(lines) + "\n"


def saved(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))
