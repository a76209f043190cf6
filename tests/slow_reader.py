"""The release's files read slowly, from their documentation: what the fast readers are held against."""

import csv
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ifllm_hub.sources.ifllm.archive import TaskFolder

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)"
_LINE = {
    4: re.compile(rf"(?P<x>{_NUMBER}),(?P<y>{_NUMBER}),(?P<timer>{_NUMBER}),(?P<epoch>\d+)", re.ASCII),
    6: re.compile(
        rf'(?P<x>{_NUMBER}),(?P<y>{_NUMBER}),(?:"(?P<window>.*)")?,(?P<index>\d*),(?P<timer>{_NUMBER}),'
        r"(?P<epoch>\d+)",
        re.ASCII | re.DOTALL,
    ),
    7: re.compile(
        rf'(?P<x>{_NUMBER}),(?P<y>{_NUMBER}),(?:"(?P<window>.*)")?,(?P<index>\d*),(?P<timer>{_NUMBER}),'
        r"(?P<face_ok>[01]),(?P<epoch>\d+)",
        re.ASCII | re.DOTALL,
    ),
}
_RECORDED = (datetime(2020, 1, 1, tzinfo=UTC).timestamp() * 1000, datetime(2100, 1, 1, tzinfo=UTC).timestamp() * 1000)


@dataclass(frozen=True)
class Row:
    """One line; `window`, `index` and `face_ok` are None where the layout lacks them or they are not given."""

    x: float
    y: float
    timer: float
    epoch: int
    window: str | None = None
    index: int | None = None
    face_ok: int | None = None


def read_line(line: str, columns: int) -> Row | None:
    """None stands for a line that cannot be parsed."""
    line = line.removesuffix("\r")
    match = _LINE[columns].fullmatch(line)
    if match is None or min(line) < " ":
        return None
    found = match.groupdict()
    row = Row(
        float(found["x"]),
        float(found["y"]),
        float(found["timer"]),
        int(found["epoch"]),
        found.get("window"),
        int(found["index"]) if found.get("index") else None,
        int(found["face_ok"]) if "face_ok" in found else None,
    )
    on_screen = max(abs(row.x), abs(row.y)) < 2**31 - 64  # what is nearer to 2**31 is it as a float32
    return row if _RECORDED[0] <= row.epoch <= _RECORDED[1] and (row.index or 0) < 2**31 and on_screen else None


def read_file(path: Path, columns: int) -> list[Row | None]:
    lines = path.read_bytes().decode("utf-8").split("\n")
    return [read_line(line, columns) for line in (lines if lines[-1] else lines[:-1])]


def layout(task: TaskFolder) -> int:
    """Columns of the rel files: the face flag exists from October 2025 on."""
    epoch = int((task.path / "abs_mouse.csv").read_text().split("\n")[0].rsplit(",", 1)[1])
    return 6 if epoch < datetime(2025, 10, 1, tzinfo=UTC).timestamp() * 1000 else 7


def columns_of(task: TaskFolder, name: str) -> int:
    return 4 if name.startswith("abs_") else layout(task)


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
