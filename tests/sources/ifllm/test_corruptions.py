"""A damaged release ends in a clear error or in the quarantine, and never changes what it did not touch.

200 seeded corruptions, one file each: bytes flipped, lines cut, doubled or torn, quotes added, files emptied, missing
or with another number of columns.
"""

import csv
import io
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.accounts import Accounts
from ifllm_hub.sources.ifllm.archive import TABLES, inventory
from ifllm_hub.sources.ifllm.questions import read_questions
from ifllm_hub.sources.ifllm.ticks import align_tasks
from ifllm_hub.sources.simulation.simulate import simulate_release
from tests.slow_reader import columns_of, read_line

SEEDS, QUICK, BATCH = 200, 20, 10
RNG = np.random.default_rng


def flip_byte(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def cut_lines(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    start = int(rng.integers(len(lines)))
    return b"".join(lines[:start] + lines[start + int(rng.integers(1, 5)) :])


def double_line(content: bytes, rng: np.random.Generator) -> bytes:
    lines = content.splitlines(keepends=True)
    at = int(rng.integers(len(lines)))
    return b"".join(lines[: at + 1] + lines[at:])


def tear(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(1, len(content)))]


def add_quote(content: bytes, rng: np.random.Generator) -> bytes:
    at = int(rng.integers(len(content)))
    return content[:at] + b'"' + content[at:]


def empty(content: bytes, rng: np.random.Generator) -> bytes:
    return b""


def missing(content: bytes, rng: np.random.Generator) -> None:
    return None


def drop_column(content: bytes, rng: np.random.Generator) -> bytes:
    return b"\n".join(line.rpartition(b",")[0] for line in content.split(b"\n"))


def add_column(content: bytes, rng: np.random.Generator) -> bytes:
    return b"\n".join(line + b",1" if line else line for line in content.split(b"\n"))


CORRUPTIONS = (flip_byte, cut_lines, double_line, tear, add_quote, empty, missing, drop_column, add_column)


class Read:
    """A release as far as the alignment; a row a tick."""

    def __init__(self, folder: Path) -> None:
        release = inventory(folder)
        self.accounts = Accounts()
        self.questions = read_questions(release).questions
        self.ticks = align_tasks(list(release.tasks), self.questions, self.accounts)

    def of(self, keep: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Questions and ticks of some workers or conversations, in a fixed order."""
        questions = self.questions.filter(keep).sort("question_id")
        return questions, self.ticks.join(
            questions.select("question_id"), on="question_id", how="semi", maintain_order="left"
        ).sort("question_id", maintain_order=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corruptions") / "release"
    return simulate_release(out, 5, 40, seed=1) / "dataset"


@pytest.fixture(scope="module")
def whole(folder: Path) -> Read:
    return Read(folder)


def touched_workers(before: bytes, after: bytes) -> list[str]:
    """Workers of the records of a table that differ, before or after."""
    records = [Counter(map(tuple, csv.reader(io.StringIO(table.decode(), newline="")))) for table in (before, after)]
    changed = (records[0] - records[1]) + (records[1] - records[0])
    return sorted({field for record in changed for field in record if field.startswith("worker_")})


@pytest.mark.parametrize(
    "start", [pytest.param(at, marks=() if at < QUICK else pytest.mark.slow) for at in range(0, SEEDS, BATCH)]
)
def test_a_corruption_is_an_error_or_quarantined_and_touches_nothing_else(
    start: int, folder: Path, whole: Read
) -> None:
    files = sorted(path for path in folder.rglob("*.csv"))
    tables = [folder / table for table in TABLES]
    for seed in range(start, start + BATCH):
        rng = RNG(seed)
        corrupt = CORRUPTIONS[seed % len(CORRUPTIONS)]
        path = tables[int(rng.integers(3))] if seed % 4 == 0 else files[int(rng.integers(len(files)))]
        before = path.read_bytes()
        after = corrupt(before, rng) if before else before
        path.unlink() if after is None else path.write_bytes(after)
        try:
            check(folder, path, before, after, whole)
        finally:
            path.write_bytes(before)


def good_lines(read: Read) -> int:
    return sum(files["ticks"].sum() for files in read.accounts.files)


def quarantined(read: Read) -> int:
    return sum(lines.height for lines in read.accounts.quarantine)


def read_or_error(folder: Path) -> Read | IfllmError:
    try:
        return Read(folder)
    except IfllmError as error:
        return error


def check(folder: Path, path: Path, before: bytes, after: bytes | None, whole: Read) -> None:
    read = read_or_error(folder)
    if isinstance(read, IfllmError):
        assert path.name in str(read)
        return
    assert after is not None
    for files in read.accounts.files:
        wrong = files.filter(pl.col("lines") != pl.col("ticks") + pl.col("duplicates") + pl.col("quarantined"))
        assert not wrong.height
    if path.name in TABLES:
        untouched = ~pl.col("worker_id").is_in(touched_workers(before, after))
    else:
        untouched = pl.col("conversation_id") != "/".join(path.parts[-3:-1])
        check_quarantine(folder, path, after, read)
        if good_lines(read) != good_lines(whole):
            assert read.accounts.lines_missing or quarantined(read) != quarantined(whole)
    for expected, found in zip(whole.of(untouched), read.of(untouched), strict=True):
        assert expected.equals(found)


def check_quarantine(folder: Path, path: Path, after: bytes, read: Read) -> None:
    """The quarantined lines of the damaged file are those that an independent reader cannot read."""
    task = next(task for task in inventory(folder).tasks if task.path == path.parent)
    columns = 4 if path.name.startswith("abs_") else columns_of(task, path.name)
    text = after.decode()
    lines = text.split("\n")[: None if not text.endswith("\n") else -1] if text else []
    expected = {number for number, line in enumerate(lines, start=1) if read_line(line, columns) is None}
    quarantine = pl.concat(read.accounts.quarantine)
    name = "/".join(path.parts[-3:])
    assert set(quarantine.filter(pl.col("file") == name)["line"]) == expected


def test_the_corpus_reaches_both_ends(folder: Path, whole: Read, tmp_path: Path) -> None:
    """Of the corruptions that change a file, some end in an error and some in the quarantine."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = sorted(copy.rglob("rel_mouse*.csv"))[0]
    path.write_bytes(drop_column(path.read_bytes(), RNG(0)))
    read = Read(copy)
    assert pl.concat(read.accounts.quarantine)["file"].is_in(["/".join(path.parts[-3:])]).any()
    (copy / TABLES[0]).write_bytes(b"")
    with pytest.raises(IfllmError, match=TABLES[0]):
        Read(copy)
