"""Whatever is wrong with a folder ends in one error that names the file and says what to do."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.oasst_etc import files
from ifllm_hub.sources.oasst_etc.study import open_oasst_etc
from ifllm_hub.sources.oasst_etc.words import MOST_WORDS
from ifllm_hub.sources.source import Recorded
from tests.sources.oasst_etc.made import (
    COLUMNS,
    WORDS,
    Fixation,
    Prompt,
    Reader,
    Trial,
    answers_file,
    write,
    write_table,
)

TEXT = "one, two three"
ANSWERS, TRACKER, QUALITY = "1_TEST_eye_tracker_*.csv", "User 0_fixations.csv", "info.csv"
FIXATIONS, SCREEN = "vertices/fixations_assigned_7.1.csv", "vertices/word_cor_image_fixations_7.1.csv"
COMPLETE = r"git sparse-checkout set oasstetc_data/raw_data"


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    fixations = [Fixation(0, 200, 0), Fixation(250, 200, 2)]
    trials = [Trial("7.1", TEXT, fixations), Trial("7.2", TEXT, fixations, started=130.0)]
    made = Reader(5, [Prompt(7, "Which, then?", trials)])
    write(tmp_path, [made])
    return made


def file(reader: Reader, pattern: str) -> Path:
    (path,) = reader.folder.glob(pattern)
    return path


def edit(reader: Reader, pattern: str, old: str, new: str) -> None:
    path = file(reader, pattern)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_everything(folder: Path) -> Recorded[Counter[str]]:
    source = open_oasst_etc(folder)
    return source.read(list(source.people))


def refused(folder: Path, *says: str) -> None:
    """Reading ends in one error that says all of this, and leaves the folder as it is."""
    before = contents(folder)
    with pytest.raises(IfllmError) as error:
        read_everything(folder)
    for what in says:
        assert what in str(error.value)
    assert contents(folder) == before


# --- folders


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=f"no such folder.*git clone --filter=blob:none --sparse .*{COMPLETE}"):
        open_oasst_etc(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(IfllmError, match="no such folder"):
        open_oasst_etc(tmp_path / "file")


@pytest.mark.parametrize(
    "half", ["", "oasstetc_data", "oasstetc_data/raw_data", "oasstetc_data/gaze_features_real/set_1"]
)
def test_a_clone_without_the_recordings(tmp_path: Path, half: str) -> None:
    (tmp_path / "clone" / half).mkdir(parents=True)
    refused(tmp_path / "clone", str(tmp_path / "clone"), "participant_<reader>_<set>", COMPLETE)


@pytest.mark.parametrize("part", ["", "vertices", ANSWERS, TRACKER, QUALITY, FIXATIONS, SCREEN])
def test_a_missing_file_or_folder(tmp_path: Path, reader: Reader, part: str) -> None:
    path = reader.folder if not part else file(reader, part)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(tmp_path, str(reader.folder), COMPLETE)


def test_a_session_without_any_recording(tmp_path: Path, reader: Reader) -> None:
    for path in (reader.folder / "vertices").iterdir():
        path.unlink()
    refused(tmp_path, "vertices", "no fixations on any answer", COMPLETE)


def test_two_files_of_answers(tmp_path: Path, reader: Reader) -> None:
    shutil.copy(answers_file(reader), reader.folder / "1_TEST_eye_tracker_again_FINAL.csv")
    refused(tmp_path, str(reader.folder), "2 files", "1 expected")


def test_a_file_larger_than_any(tmp_path: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_MOST_BYTES", 100)
    refused(tmp_path, str(answers_file(reader)), "larger than any file")


# --- formats


@pytest.mark.parametrize(
    ("part", "column"),
    [(ANSWERS, "n_resp"), (TRACKER, "FPOGID"), (QUALITY, "discarted"), (FIXATIONS, "word_number"), (SCREEN, "text")],
)
def test_another_header(tmp_path: Path, reader: Reader, part: str, column: str) -> None:
    edit(reader, part, column, f"new_{column.replace('t', '_')}")
    refused(tmp_path, str(file(reader, part)), f"no column {column}", "separator")


@pytest.mark.parametrize(
    ("part", "usual", "other"),
    [
        (ANSWERS, ";;;", ";"),
        (ANSWERS, ";;;", "\t"),
        (TRACKER, ",", ";"),
        (QUALITY, ";", ","),
        (FIXATIONS, ";", ","),
        (SCREEN, ";", "\t"),
    ],
)
def test_another_separator(tmp_path: Path, reader: Reader, part: str, usual: str, other: str) -> None:
    path = file(reader, part)
    path.write_text(path.read_text().replace(usual, other))
    refused(tmp_path, str(path), f"separator {usual!r} expected")


@pytest.mark.parametrize("part", [ANSWERS, TRACKER, QUALITY, FIXATIONS, SCREEN])
@pytest.mark.parametrize("content", [b"", b"\n", b"\x00\x01\x02", b"\xff\xfe;\xff\n", b"<html>no such page</html>"])
def test_another_file(tmp_path: Path, reader: Reader, part: str, content: bytes) -> None:
    path = file(reader, part)
    path.write_bytes(content)
    refused(tmp_path, str(path), COMPLETE)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"Which, then?";;;', '"Which, then?;;;', "row 4"),
        ("7;;;C:", "7;;;;;;C:", "row 4 has more than 23 fields"),
        ("7;;;C:", "7", "row 4 ends after"),
        ("7;;;C:", "seven;;;C:", "n_prompt 'seven' is not a number"),
        ("7.1", "../../7.1", "n_resp '../../7.1' is not an answer's id"),
        ("7.2", "7.1", "more than two answers, or one twice"),
        (";;;3;;;", ";;;7;;;", "quality.response is 7, 1 to 5 expected"),
        (";;;3;;;", ";;;2.5;;;", "quality.response is 2.5, 1 to 5 expected"),
        (";;;3;;;", ";;;good;;;", "quality.response is 'good', a number expected"),
        (";;;1;;;2.5;;;", ";;;3;;;2.5;;;", "ranking_better.response is 3, 1 to 2 expected"),
        (";;;100.0;;;", ";;;nan;;;", "key_resp_2.started is 'nan', a number expected"),
        (TEXT, "," * 8_001, "has 8001 characters"),
    ],
)
def test_a_damaged_session(tmp_path: Path, reader: Reader, old: str, new: str, says: str) -> None:
    edit(reader, ANSWERS, old, new)
    refused(tmp_path, str(answers_file(reader)), says, COMPLETE)


def test_a_cut_off_session(tmp_path: Path, reader: Reader) -> None:
    path = answers_file(reader)
    path.write_text(path.read_text()[:-100])
    refused(tmp_path, str(path), f"of {len(COLUMNS)} fields", COMPLETE)


def test_a_prompt_and_an_answer_twice(tmp_path: Path, reader: Reader) -> None:
    path = answers_file(reader)
    rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*rows[:4], rows[3], *rows[4:]]))
    refused(tmp_path, "prompt 7 has more than two answers, or one twice")
    other = [row.replace("7;;;C:", "8;;;C:", 1) for row in rows[3:5]]
    path.write_text("".join([*rows, *other, *rows[3:5]]))
    refused(tmp_path, "prompt 7 occurs twice")
    path.write_text("".join([*rows, rows[5]]))
    refused(tmp_path, "prompt 7 has more than one choice")


@pytest.mark.parametrize(
    ("part", "old", "new", "says"),
    [
        (FIXATIONS, "0.20000", "-0.2", "no screen or session"),
        (FIXATIONS, "0.20000", "nan", "no screen or session"),
        (FIXATIONS, "0.20000", "1e9", "no screen or session"),
        (FIXATIONS, "65.0", "inf", "no screen or session"),
        (FIXATIONS, "0.20000", "", "a fixation twice, or without a value"),
        (FIXATIONS, "0.20000", "short", "column 'duration'"),
        (FIXATIONS, "0;1;", "0;2;", "a fixation twice, or without a value"),
        (FIXATIONS, "0;1;", "0;1.5;", "column 'ID'"),
        (SCREEN, "0;0;", "0;1;", "a word twice, or without a number"),
        (SCREEN, "0;0;", "0;;", "a word twice, or without a number"),
        (SCREEN, "0;0;", "0;0;;;;", "is not a CSV file"),
        (QUALITY, "7.1", "7.2", "a trial twice, or without an id"),
        (QUALITY, "False", "no", "neither True nor False"),
        (QUALITY, "31.5", "far", "column 'mean_distance'"),
        (TRACKER, "0.20000", "long", "column 'FPOGD'"),
    ],
)
def test_a_damaged_table(tmp_path: Path, reader: Reader, part: str, old: str, new: str, says: str) -> None:
    edit(reader, part, old, new)
    refused(tmp_path, str(reader.folder), says, COMPLETE)


def test_more_words_than_fit_on_a_screen(tmp_path: Path, reader: Reader) -> None:
    words = [(n, n, "word", *[0] * 7) for n in range(MOST_WORDS + 1)]
    write_table(file(reader, SCREEN), WORDS, words)
    refused(tmp_path, "trial 7.1", f"{MOST_WORDS + 1} words on a screen")


# --- any damage


def _cut(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: rng.integers(len(content))]


def _changed(rng: np.random.Generator, content: bytes) -> bytes:
    bytes_ = bytearray(content)
    for at in rng.integers(len(bytes_), size=rng.integers(1, 8)):
        bytes_[at] = rng.choice(list(b'";,\n\x00\xff09.e-'))
    return bytes(bytes_)


def _moved(rng: np.random.Generator, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    lines.insert(rng.integers(len(lines) + 1), lines[rng.integers(len(lines))])
    return b"".join(lines)


@pytest.mark.parametrize("damage", [_cut, _changed, _moved])
@pytest.mark.parametrize("part", [ANSWERS, TRACKER, QUALITY, FIXATIONS, SCREEN])
def test_any_damage_is_read_or_refused(
    tmp_path: Path, reader: Reader, part: str, damage: Callable[[np.random.Generator, bytes], bytes]
) -> None:
    path = file(reader, part)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        path.write_bytes(damage(rng, whole))
        try:
            recorded = read_everything(tmp_path)
        except IfllmError as error:
            message = str(error)
        else:
            message = str(reader.folder)
            assert len(recorded.questions) == len(recorded.trajectories)
            assert all(ticks.is_sorted() for ticks in recorded.trajectories["t"])
        assert str(reader.folder) in message
        assert len(message) < 1_500
