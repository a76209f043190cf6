"""Personal data that was typed is found where it stands, and only counts of it are published."""

import json
import shutil
import sys
from itertools import groupby
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub import cli
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.privacy.pii import find_personal_data
from ifllm_hub.dataset.privacy.report import REPORT
from ifllm_hub.dataset.scan import scan_dataset
from ifllm_hub.errors import IfllmError

TYPED = {
    1: ("my card is 4111 1111 1111 1111", "CREDIT_CARD", "4111 1111 1111 1111"),
    2: ("😀 mail jane.doe@example.org please", "EMAIL_ADDRESS", "jane.doe@example.org"),
    3: ("call +1 415-555-2671 now", "PHONE_NUMBER", "+1 415-555-2671"),
    4: ("worker A1B2C3D4E5F6G here", "MTURK_WORKER_ID", "A1B2C3D4E5F6G"),
    5: ("Hello, my name is Jane", "SELF_DISCLOSURE", "my name"),
    6: ("I'm 34 years old", "SELF_DISCLOSURE", "I'm 34 years"),
    7: ("i live in Lowfield", "SELF_DISCLOSURE", "i live in"),
    8: ("from 192.168.17.4 today", "IP_ADDRESS", "192.168.17.4"),
    9: ("see https://jane.example.org/cv", "URL", "https://jane.example.org/cv"),
    10: ("pan ABCPD1234E ok", "IN_PAN", "ABCPD1234E"),
}
HARMLESS = (
    "Who won the match of 1998, and who came in second?",
    "Tell me more about his siblings and his early life.",
    "card 4111 1111 1111 1112 has a wrong checksum",
    "AMERICANISM is a word, ABCDEFGHIJKLM is none",
    "Tell me about my favorite river, and what I am not told.",
    "",
)


def texts(rows: dict[int, str]) -> pl.DataFrame:
    return pl.DataFrame(
        [("pairwise", number, "query", text) for number, text in rows.items()],
        schema=["config", "question_id", "column", "text"],
        orient="row",
    )


@pytest.fixture
def presidio() -> None:
    pytest.importorskip("presidio_analyzer", reason="needs the extra `privacy`")


@pytest.mark.usefixtures("presidio")
def test_what_people_type_by_mistake_is_found_where_it_stands() -> None:
    typed = texts({number: text for number, (text, _, _) in TYPED.items()})
    shares: list[float] = []
    found = find_personal_data(typed, shares.append)
    assert shares == [number / len(TYPED) for number in range(1, len(TYPED) + 1)]
    by_question = {
        key: list(rows) for key, rows in groupby(found.iter_rows(named=True), lambda row: row["question_id"])
    }
    for number, (text, entity, match) in TYPED.items():
        row = next(row for row in by_question[number] if row["entity"] == entity)
        assert row["text"] == text[row["start"] : row["end"]] == match
        assert row["config"] == "pairwise"
        assert 0.4 <= row["score"] <= 1


@pytest.mark.usefixtures("presidio")
def test_ordinary_questions_are_not_flagged() -> None:
    assert find_personal_data(texts(dict(enumerate(HARMLESS)))).is_empty()


@pytest.fixture
def typed_in(dataset: Path, tmp_path: Path) -> Path:
    """A dataset in which somebody typed an address of mail."""
    folder = shutil.copytree(dataset, tmp_path / "ifllm")
    path = folder / "data/pairwise/train-00000-of-00001.parquet"
    rows = pl.read_parquet(path)
    told = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(TYPED[2][0])).otherwise("query")
    rows.with_columns(query=told).write_parquet(path)
    return folder


@pytest.mark.usefixtures("presidio")
def test_scan_writes_a_list_to_review_and_counts_in_the_report_and_the_card(typed_in: Path, tmp_path: Path) -> None:
    card = (typed_in / "README.md").read_bytes()
    found = scan_dataset(typed_in, tmp_path / "found.csv")
    mail = found.row(by_predicate=(pl.col("entity") == "EMAIL_ADDRESS") & (pl.col("column") == "query"), named=True)
    assert mail["question_id"] == load_config(typed_in, "pairwise")["question_id"][0]
    listed = pl.read_csv(tmp_path / "found.csv")
    assert listed.columns == ["config", "question_id", "column", "entity", "score", "start", "end"]
    assert listed.height == found.height
    assert mail["text"] == "jane.doe@example.org"
    free_text = json.loads((typed_in / REPORT).read_text())["free_text"]
    assert {"column": "query", "entity": "EMAIL_ADDRESS", "found": 1} in free_text["found"]
    assert sum(row["found"] for row in free_text["found"]) == found.height
    questions = json.loads((typed_in / "manifest.json").read_text())["questions"]
    assert free_text["texts"] == 3 * questions["pairwise"]["questions"] + 2 * questions["pointwise"]["questions"]
    assert "EMAIL_ADDRESS" in free_text["entities"]
    assert mail["text"] not in (typed_in / REPORT).read_text() + (typed_in / "README.md").read_text()
    assert (typed_in / "README.md").read_bytes() != card


@pytest.mark.usefixtures("presidio")
def test_only_on_demand_the_list_shows_the_text(
    typed_in: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["scan", typed_in, "--out", tmp_path / "found.csv", "--show-text"]
    monkeypatch.setattr(sys, "argv", ["ifllm", *map(str, words)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    assert exit_.value.code == 0
    assert "jane.doe@example.org" in (tmp_path / "found.csv").read_text()
    out = capsys.readouterr().out
    assert "query: 1 EMAIL_ADDRESS" in out
    assert "jane.doe" not in out


def test_the_list_is_not_written_where_it_would_be_published(dataset: Path) -> None:
    with pytest.raises(IfllmError, match="would be published with it"):
        scan_dataset(dataset, dataset / "data" / "found.csv")


def test_scan_without_presidio_says_how_to_get_it(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(IfllmError, match=r"pip install 'ifllm_hub\[privacy\]'"):
        scan_dataset(dataset, tmp_path / "found.csv")
    assert not (tmp_path / "found.csv").exists()
