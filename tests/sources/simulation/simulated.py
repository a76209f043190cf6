"""A simulated release as its files and tables are, read in plain Python."""

import csv
import hashlib
import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import polars as pl

from ifllm_hub.sources.ifllm.archive import PAIRWISE_FILES, POINTWISE_FILES

REL_LINE = re.compile(r'^(-?[\d.]+),(-?[\d.]+),(?:"(.*)")?,(\d*),([\d.]+),(?:([01]),)?(\d+)$')
HEADERS = {
    "query_logs_table.csv": "query_ID,user_id,task_id,user_query,llm_response_1,llm_response_2,llm_name_1,llm_name_2,"
    "likert_1,likert_2,preference,adjustment,query_timestamp",
    "task_table.csv": "user_id,task_id,copy_sentence,summary,feedback,understand_before,understand_after,query_copy,"
    "llm_response_copy,accuracy,finished,domain",
    "record_info_table.csv": "user_id,consent,age,location,education,race,gender,inserted_at",
}
HOUR = 3_600_000


@dataclass(frozen=True)
class Rel:
    x: float
    y: float
    window: str | None
    index: int | None
    timer: str
    face_ok: str | None
    epoch: int


class Conversation:
    """The behavior files of one folder, read without the package's own parser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = (folder.parent.name, int(folder.name))
        self.pairwise = (folder / "rel_mouse_left.csv").exists()
        self.rel_files = (PAIRWISE_FILES if self.pairwise else POINTWISE_FILES)[2:]

    def lines(self, name: str) -> list[str]:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert text.endswith("\n")
        assert "\r" not in text
        return text.split("\n")[:-1]

    @cached_property
    def mouse(self) -> list[tuple[int, int, str, int]]:
        rows = (line.split(",") for line in self.lines("abs_mouse.csv"))
        return [(int(x), int(y), timer, int(epoch)) for x, y, timer, epoch in rows]

    @cached_property
    def gaze(self) -> list[tuple[float, float, str, int]]:
        """Without the repetitions of pairwise files."""
        lines = list(dict.fromkeys(self.lines("abs_gaze.csv")))
        rows = (line.split(",") for line in lines)
        return [(float(x), float(y), timer, int(epoch)) for x, y, timer, epoch in rows]

    @cached_property
    def rel(self) -> dict[str, list[Rel | None]]:
        """None stands for a line that cannot be parsed."""
        return {name: self.read(name) for name in self.rel_files}

    def read(self, name: str) -> list[Rel | None]:
        return [self._parse(line) for line in self.lines(name)]

    @staticmethod
    def _parse(line: str) -> Rel | None:
        match = REL_LINE.match(line)
        if match is None:
            return None
        x, y, window, index, timer, face_ok, epoch = match.groups()
        return Rel(float(x), float(y), window, int(index) if index else None, timer, face_ok, int(epoch))

    def absolute(self, name: str) -> list[tuple[float, float]]:
        rows = self.gaze if "gaze" in name else self.mouse
        return [(row[0], row[1]) for row in rows]

    @staticmethod
    def side(name: str) -> int:
        return int(name in ("rel_gaze_two.csv", "rel_mouse_right.csv"))


class Simulation:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.truth = pl.read_parquet(root / "ground_truth.parquet")
        self.log, self.tasks, self.records = (self.table(name) for name in HEADERS)
        self.conversations = [Conversation(path) for path in sorted((root / "dataset/user_behavior").glob("*/*"))]

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.root / "dataset" / name).open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @cached_property
    def by_key(self) -> dict[tuple[str, int], list[dict]]:
        """Ground truth rows of each conversation in turn order, with the texts as they were on screen."""
        log = {int(row["query_ID"]): row for row in self.log}
        found: dict[tuple[str, int], list[dict]] = {}
        for row in self.truth.sort("turn").iter_rows(named=True):
            texts = [log[row["question_id"]][name].replace("\r\n", "") for name in ("llm_response_1", "llm_response_2")]
            found.setdefault((row["worker_id"], row["task_id"]), []).append({**row, "texts": texts})
        return found

    def on_text(self, conversation: Conversation, name: str):
        """The rows of a file that carry a window, with the truth of the question on screen and of the one before."""
        questions = self.by_key.get(conversation.key, [])
        rendered = [question["rendered_at"] for question in questions]
        for row in conversation.rel[name]:
            if row is not None and row.window is not None:
                shown = bisect_right(rendered, row.epoch) - 1
                yield row, questions[shown] if shown >= 0 else None


def fits(text: str, row: Rel) -> bool:
    """Does the window stand at the index (UTF-16 units), at most 10 units to each side?"""
    units = text.encode("utf-16-le")
    window = row.window.encode("utf-16-le")
    around = units[2 * max(0, row.index - 10) : 2 * (row.index + 10)]
    return around == window if len(window) == 40 else window in around


def asked_at(row: dict[str, str]) -> int:
    return int(datetime.fromisoformat(row["query_timestamp"]).replace(tzinfo=UTC).timestamp() * 1000)


def digests(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
