"""Behavior lines are read exactly, and what cannot be read is quarantined with its place and its reason."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import Release
from ifllm_hub.sources.ifllm.lines import Parsed, count_columns, parse_files
from tests.slow_reader import Row, columns_of, layout, read_file, read_line

EPOCH = 1_760_000_000_123
REL_COLUMNS = ("x", "y", "page_timer", "epoch", "window", "index", "face_ok")


def rows(parsed: Parsed) -> list[list[Row | None]]:
    """The parsed rows of each file as the slow reader gives them."""
    names = [name for name in REL_COLUMNS if name in parsed.rows.columns]
    files: list[list[Row | None]] = [[] for _ in parsed.lines]
    for file, ok, *values in parsed.rows.select("file", "ok", *names).iter_rows():
        assert ok or not any(value is not None for value in values)
        files[file].append(Row(*values) if ok else None)
    return files


def parse(folder: Path, columns: int, *contents: str | bytes) -> Parsed:
    paths = [folder / f"{number}.csv" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return parse_files(paths, columns)


def quarantine(parsed: Parsed) -> list[tuple[int, int, str]]:
    return parsed.quarantine.select("file", "line", "reason").rows()


@pytest.mark.parametrize("columns", [4, 6, 7])
def test_every_simulated_file_reads_as_line_by_line(release: Release, columns: int) -> None:
    paths = [task.path / n for task in release.tasks for n in task.files if columns_of(task, n) == columns]
    parsed = parse_files(paths, columns)
    expected = [read_file(path, columns) for path in paths]
    assert rows(parsed) == expected
    assert parsed.lines == [len(file) for file in expected]
    bad = [(f, i + 1) for f, file in enumerate(expected) for i, row in enumerate(file) if row is None]
    assert [place[:2] for place in quarantine(parsed)] == bad
    assert bool(bad) == (columns != 4)


def test_together_or_one_by_one_in_any_order_files_read_the_same(release: Release) -> None:
    paths = [task.path / n for task in release.tasks for n in task.files if columns_of(task, n) == 7]
    together = rows(parse_files(paths, 7))
    assert [rows(parse_files([path], 7))[0] for path in paths] == together
    order = random.Random(1).sample(range(len(paths)), len(paths))
    assert rows(parse_files([paths[i] for i in order], 7)) == [together[i] for i in order]


@pytest.mark.parametrize(
    ("columns", "line", "row"),
    [
        pytest.param(4, f"640,12,1000,{EPOCH}", Row(640, 12, 1000, EPOCH), id="abs"),
        pytest.param(4, f"-227318.25,-0.5,0.1,{EPOCH}", Row(-227318.25, -0.5, 0.1, EPOCH), id="wild-gaze"),
        pytest.param(7, f"-1,-1,,,7.5,0,{EPOCH}", Row(-1, -1, 7.5, EPOCH, None, None, 0), id="outside"),
        pytest.param(6, f"-1,-1,,,7.5,{EPOCH}", Row(-1, -1, 7.5, EPOCH), id="outside-six"),
        pytest.param(6, f'1,2,"plain",5,7.5,{EPOCH}', Row(1, 2, 7.5, EPOCH, "plain", 5), id="six"),
        pytest.param(7, f'1,2,"a, b,c",5,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, "a, b,c", 5, 1), id="commas"),
        pytest.param(7, f'1,2,"say "no" now",5,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, 'say "no" now', 5, 1), id="quotes"),
        pytest.param(7, f'1,2,""no"",5,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, '"no"', 5, 1), id="quotes-at-both-ends"),
        pytest.param(7, f'1,2,""",5,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, '"', 5, 1), id="a-quote-alone"),
        pytest.param(7, f'1,2,"x",3,"y",5,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, 'x",3,"y', 5, 1), id="looks-like-fields"),
        pytest.param(7, f'1,2,"",5,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, "", 5, 1), id="empty-window"),
        pytest.param(7, f'1,2," a ",0,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, " a ", 0, 1), id="spaces-stay"),
        pytest.param(7, f'1,2,"NULL",5,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, "NULL", 5, 1), id="the-word-null"),
        pytest.param(7, f'1,2,"é🔧\u2028",5,7,1,{EPOCH}', Row(1, 2, 7, EPOCH, "é🔧\u2028", 5, 1), id="beyond-ascii"),
    ],
)
def test_a_good_line(tmp_path: Path, columns: int, line: str, row: Row) -> None:
    assert read_line(line, columns) == row
    for content in (f"{line}\n", line):
        parsed = parse(tmp_path, columns, content)
        assert rows(parsed) == [[row]]
        assert parsed.lines == [1]
        assert parsed.quarantine.height == 0


@pytest.mark.parametrize("columns", [4, 6, 7])
def test_a_checkout_with_the_line_ends_of_windows_reads_the_same(
    release: Release, tmp_path: Path, columns: int
) -> None:
    paths = [task.path / n for task in release.tasks for n in task.files if columns_of(task, n) == columns][:6]
    contents = [path.read_bytes() for path in paths]
    changed = parse(tmp_path, columns, *(content.replace(b"\n", b"\r\n") for content in contents))
    same = parse_files(paths, columns)
    assert changed.rows.equals(same.rows)
    assert (changed.lines, quarantine(changed)) == (same.lines, quarantine(same))


@pytest.mark.parametrize(
    ("columns", "line", "reason"),
    [
        pytest.param(4, f"1,2,{EPOCH}", "wrong number of fields", id="too-few"),
        pytest.param(4, f"1,2,3,4,{EPOCH}", "wrong number of fields", id="too-many"),
        pytest.param(4, "", "wrong number of fields", id="blank"),
        pytest.param(4, f"1,,3,{EPOCH}", "field is not a number", id="no-y"),
        pytest.param(4, f'1,"2",3,{EPOCH}', "field is not a number", id="quoted-number"),
        pytest.param(4, f"1,nan,3,{EPOCH}", "field is not a number", id="nan"),
        pytest.param(4, f"1,2,inf,{EPOCH}", "field is not a number", id="infinite"),
        pytest.param(4, "1,2,3,1577836799999", "epoch is not in milliseconds from 2020 to 2100", id="before-2020"),
        pytest.param(4, "1,2,3,4102444800001", "epoch is not in milliseconds from 2020 to 2100", id="after-2100"),
        pytest.param(7, '1,2,"w",5,7,1,1760000000', "epoch is not in milliseconds from 2020 to 2100", id="seconds"),
        pytest.param(4, f"3e9,2,3,{EPOCH}", "coordinate beyond any screen", id="x-too-large"),
        pytest.param(4, f"1,-2147483600,3,{EPOCH}", "coordinate beyond any screen", id="y-too-small-once-rounded"),
        pytest.param(7, f'1,1{"0" * 40},"w",5,7,1,{EPOCH}', "coordinate beyond any screen", id="y-beyond-float32"),
        pytest.param(7, f'1,2,"a\tb",5,7,1,{EPOCH}', "control character", id="tab"),
        pytest.param(6, f'1,2,"\x1b[2J",5,7,{EPOCH}', "control character", id="escape"),
        pytest.param(7, f'1,2,"a\x02, b\x02",5,7,1,{EPOCH}', "control character", id="the-parser's-own-mark"),
        pytest.param(4, f"1,2\r,3,{EPOCH}", "control character", id="carriage-return-inside"),
        pytest.param(4, "\0" * 40, "control character", id="nul"),
        pytest.param(4, f"1,2,3,{EPOCH}.5", "field is not a number", id="half-ms-epoch"),
        pytest.param(7, "", "wrong number of fields", id="blank-rel"),
        pytest.param(7, f'1,2,"w",5,7,{EPOCH}', "misplaced quotes", id="six-fields-among-seven"),
        pytest.param(6, f'1,2,"w",5,7,1,{EPOCH}', "misplaced quotes", id="seven-fields-among-six"),
        pytest.param(7, f"-1,-1,,,7,{EPOCH}", "wrong number of fields", id="outside-six-among-seven"),
        pytest.param(7, f"1,2,w, x,5,7,1,{EPOCH}", "wrong number of fields", id="unquoted-with-comma"),
        pytest.param(7, f"1,2,w x,5,7,1,{EPOCH}", "window text without quotes", id="unquoted"),
        pytest.param(7, f'1,2,"w,5,7,1,{EPOCH}', "misplaced quotes", id="one-quote"),
        pytest.param(7, f'1,2,",5,7,1,{EPOCH}', "misplaced quotes", id="a-quote-opened-and-closed-by-itself"),
        pytest.param(7, f'1,2,w"x"y,5,7,1,{EPOCH}', "misplaced quotes", id="quotes-inside"),
        pytest.param(7, f'1,2,"w,5,7,1,{EPOCH}"', "misplaced quotes", id="swallowed-by-a-csv-round-trip"),
        pytest.param(7, f'"1",2,"w",5,7,1,{EPOCH}', "misplaced quotes", id="quoted-x"),
        pytest.param(7, f'1,2,"w",5.0,7,1,{EPOCH}', "field is not a number", id="index-with-a-point"),
        pytest.param(7, f'1,2,"w",-5,7,1,{EPOCH}', "field is not a number", id="negative-index"),
        pytest.param(7, f'1,2,"w",4294967296,7,1,{EPOCH}', "field is not a number", id="huge-index"),
        pytest.param(7, f'1,2,"w",5,7,2,{EPOCH}', "field is not a number", id="face-flag-two"),
        pytest.param(7, f'1,2,"w",5,7,x,{EPOCH}', "field is not a number", id="face-flag-letter"),
        pytest.param(7, f'1,2,"w",5,7,,{EPOCH}', "field is not a number", id="no-face-flag"),
        pytest.param(6, f'1,2,"w",5,,{EPOCH}', "field is not a number", id="no-timer"),
    ],
)
def test_a_broken_line_is_quarantined_and_its_neighbors_are_not(
    tmp_path: Path, columns: int, line: str, reason: str
) -> None:
    good = {4: f"1,2,3,{EPOCH}\n", 6: f'1,2,"w",5,3,{EPOCH}\n', 7: f'1,2,"w",5,3,1,{EPOCH}\n'}[columns]
    row = read_line(good[:-1], columns)
    assert read_line(line, columns) is None
    parsed = parse(tmp_path, columns, good * 3, "", f"{good}{good}{line}\n{good}", f"{line}\n")
    assert rows(parsed) == [[row] * 3, [], [row, row, None, row], [None]]
    assert quarantine(parsed) == [(2, 3, reason), (3, 1, reason)]
    assert parsed.lines == [3, 0, 4, 1]


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from('",\\\x7f\x85'), max_size=25)
NUMBERS = st.integers(-(10**7), 10**7).map(lambda hundredths: hundredths / 100)
RELEASED_ROWS = st.builds(
    Row,
    x=NUMBERS,
    y=NUMBERS,
    timer=st.integers(0, 10**8).map(lambda tenths: tenths / 10),
    epoch=st.integers(EPOCH, EPOCH + 10**10),
    window=st.none() | TEXT,
    index=st.none() | st.integers(0, 2**31 - 1),
    face_ok=st.sampled_from([0, 1]),
)


def written(row: Row) -> str:
    """The line that the study's page makes of a row: plain joins, no escaping."""
    window = "" if row.window is None else f'"{row.window}"'
    index = "" if row.index is None else str(row.index)
    return f"{row.x},{row.y},{window},{index},{row.timer},{row.face_ok},{row.epoch}"


@given(st.lists(st.lists(RELEASED_ROWS, max_size=6), min_size=1, max_size=3))
def test_whatever_the_page_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[Row]]
) -> None:
    contents = ["".join(f"{written(row)}\n" for row in file) for file in files]
    parsed = parse(tmp_path_factory.mktemp("written"), 7, *contents)
    assert rows(parsed) == files
    assert parsed.quarantine.height == 0


LINES = st.sampled_from(
    [f'1.5,-2,"w, "x"",5,7.5,1,{EPOCH}', f"-1,-1,,,7,0,{EPOCH}", f'3,4,"",12,7,1,{EPOCH}', f'3,4,"a",9,7,1,{EPOCH}']
)
EDITS = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["", '"', ",", "7", "-", ".", "x", '","', "\t", "\x02", "\r"])),
    max_size=3,
)


@given(st.lists(st.tuples(LINES, EDITS), min_size=1, max_size=20))
@example([(f'1,2,"w",5,7,1,{EPOCH}', [(0, '"')])])
def test_a_damaged_line_is_taken_exactly_when_the_slow_reader_takes_it(
    tmp_path_factory: pytest.TempPathFactory, damaged: list[tuple[str, list[tuple[int, str]]]]
) -> None:
    lines = []
    for line, edits in damaged:
        for at, put in edits:
            line = line[:at] + put + line[at + (put == "") :]
        lines.append(line)
    parsed = parse(tmp_path_factory.mktemp("damaged"), 7, "".join(f"{line}\n" for line in lines))
    assert rows(parsed) == [[read_line(line, 7) for line in lines]]


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        pytest.param(b"\xff", r"byte 0xff at offset \d+ is not UTF-8", id="invalid"),
        pytest.param(b"\xf0\x9f\x94", r"byte 0xf0 at offset \d+ is not UTF-8", id="half-an-emoji"),
    ],
)
def test_a_byte_that_no_browser_wrote_refuses_the_file(tmp_path: Path, damage: bytes, what: str) -> None:
    first = f"1,2,3,{EPOCH}\n".encode()
    with pytest.raises(IfllmError, match=rf"1\.csv, line 2: {what}") as error:
        parse(tmp_path, 4, first, first + b"1,2" + damage + b",3,4\n")
    assert f"offset {len(first) + 3} " in str(error.value)


def test_a_file_that_is_gone_or_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for name in ("gone.csv", "folder.csv"):
        with pytest.raises(IfllmError, match=rf"{re.escape(name)}: cannot be read \("):
            parse_files([tmp_path / name], 4)
        with pytest.raises(IfllmError, match=rf"{re.escape(name)}: cannot be read \("):
            count_columns(tmp_path / name)


def test_no_files_and_empty_files(tmp_path: Path) -> None:
    for columns in (4, 6, 7):
        assert parse_files([], columns).rows.height == 0
        empty = parse(tmp_path, columns, "", "")
        assert (empty.lines, empty.rows.height, empty.quarantine.height) == ([0, 0], 0, 0)


def test_the_layout_is_told_from_the_file(release: Release) -> None:
    told = {task.path: count_columns(task.path / task.files[2]) for task in release.tasks}
    assert told == {task.path: layout(task) for task in release.tasks}
    assert set(told.values()) == {6, 7}


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        pytest.param("", 6, id="empty"),
        pytest.param(f'1,2,"w",5,77,{EPOCH}', 6, id="no-newline"),
        pytest.param(f"1,2\n-1,-1,,,7,1,{EPOCH}\n" + f'1,2,"w",5,7,1,{EPOCH}\n', 7, id="cut-first-line"),
        pytest.param(f"-1,-1,,,7,{EPOCH}\n" + f"-1,-1,,,77,{EPOCH}\n" * 2, 6, id="one-digit-timer"),
    ],
)
def test_one_odd_line_does_not_decide_the_layout(tmp_path: Path, content: str, columns: int) -> None:
    (tmp_path / "rel.csv").write_text(content)
    assert count_columns(tmp_path / "rel.csv") == columns
