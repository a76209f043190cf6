"""One conversation written by hand as the study's page writes it, and the slow rule for its carets."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.sources.ifllm.accounts import Accounts
from ifllm_hub.sources.ifllm.archive import PAIRWISE_FILES, POINTWISE_FILES, TaskFolder
from ifllm_hub.sources.ifllm.ticks import align_tasks

SIDES = ("left", "right")
LEFT = "The quick brown fox jumps over the lazy dog. The end of it."
RIGHT = "A second answer 🔧 with an emoji, and then some more words."
NOON = int(datetime(2025, 10, 20, 12, tzinfo=UTC).timestamp() * 1000)


def slow_char(text: str, index: int | None, window: str | None) -> int:
    """The rule of the documentation: the window around the caret proves it, else its only place in the text."""
    if index is None or not window:
        return -1
    units = text.encode("utf-16-le")
    at = len(units[: 2 * index].decode("utf-16-le", errors="ignore")) + max(0, index - len(units) // 2)
    if window in text[max(0, at - 15) : at + 15]:
        return min(at, len(text))
    return text.index(window) + len(window) // 2 if len(window) >= 6 and text.count(window) == 1 else -1


def rel_name(modality: str, side: str, pairwise: bool) -> str:
    names = PAIRWISE_FILES[2:] if pairwise else POINTWISE_FILES[2:]
    return names[("gaze", "mouse").index(modality) * (1 + pairwise) + SIDES.index(side)]


@dataclass
class Tick:
    """One sample; `carets` maps "mouse_left" and so on to (index, window)."""

    at: int
    carets: dict[str, tuple[int, str]]
    mouse: tuple[int, int] = (100, 200)
    gaze: tuple[float, float] = (10.04, 20.0)
    timer: float | None = None


@dataclass
class Aligned:
    ticks: list[dict[str, Any]]
    accounts: Accounts

    @property
    def files(self) -> dict[str, tuple[int, int, int, int]]:
        frame = pl.concat(self.accounts.files)
        rows = frame.select("file", "lines", "ticks", "duplicates", "quarantined").rows()
        assert all(lines == sum(statuses) for _, lines, *statuses in rows)
        return {file.rsplit("/", 1)[1]: tuple(counts) for file, *counts in rows}

    @property
    def statuses(self) -> dict[str, int]:
        return dict(pl.concat(self.accounts.carets).group_by("status").agg(pl.col("ticks").sum()).rows())

    @property
    def counted(self) -> dict[str, int]:
        return pl.concat(self.accounts.ticks).sum().row(0, named=True)


Edit = Callable[[dict[str, list[str]]], object]


def align(
    folder: Path,
    ticks: list[Tick],
    asked_at: tuple[int | None, ...] = (NOON,),
    pairwise: bool = True,
    columns: int = 7,
    texts: tuple[str, str] = (LEFT, RIGHT),
    edit: Edit | None = None,
) -> Aligned:
    """Write one conversation as the study's page does, with `edit` applied to its lines, and align it."""
    files: dict[str, list[str]] = {name: [] for name in (PAIRWISE_FILES if pairwise else POINTWISE_FILES)}
    for number, tick in enumerate(ticks):
        timer = 1000 + 80 * number if tick.timer is None else tick.timer
        files["abs_mouse.csv"].append(f"{tick.mouse[0]},{tick.mouse[1]},{timer},{tick.at}")
        files["abs_gaze.csv"].append(f"{tick.gaze[0]},{tick.gaze[1]},{timer},{tick.at}")
        for modality in ("mouse", "gaze"):
            for side in SIDES[: 1 + pairwise]:
                caret = tick.carets.get(f"{modality}_{side}")
                place = "-1,-1,," if caret is None else f'5,5,"{caret[1]}",{caret[0]}'
                flag = "1," if columns == 7 else ""
                files[rel_name(modality, side, pairwise)].append(f"{place},{timer},{flag}{tick.at + 1}")
    if edit:
        edit(files)
    task = TaskFolder("ann", 11, folder, pairwise)
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    questions = pl.DataFrame(
        {
            "question_id": [7 + i for i in range(len(asked_at))],
            "conversation_id": "ann/11",
            "asked_at": asked_at,
            "response_left": texts[0],
            "response_right": texts[1] if pairwise else None,
        },
        schema={
            "question_id": pl.Int64,
            "conversation_id": pl.String,
            "asked_at": pl.Int64,
            "response_left": pl.String,
            "response_right": pl.String,
        },
    )
    accounts = Accounts()
    return Aligned(align_tasks([task], questions, accounts).to_dicts(), accounts)


def reading(n: int, start: int = NOON) -> list[Tick]:
    """A mouse that reads the left answer, a gaze that reads the right one."""
    return [
        Tick(start + 80 * i, {"mouse_left": (4 + i, LEFT[4 : 14 + i]), "gaze_right": (2, RIGHT[0:12])})
        for i in range(n)
    ]
