"""What raters hand back: un-blinded right for every side, and every kind of bad line refused with its place."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.human.questions import FIELDS
from ifllm_hub.evaluation.human.ratings import import_ratings
from ifllm_hub.evaluation.human.task import export_task
from ifllm_hub.evaluation.tables import RATINGS
from tests.evaluation.made import write_generations

Row = dict[str, str]
FILLED = {
    "claim_supported_left": "yes",
    "claim_left": "the claim",
    "claim_url_left": "https://example.org",
    "claim_evidence_left": "it says so",
    "errors_left": "0",
    "informativeness_left": "5",
    "relevance_left": "4",
    "overall_left": "5",
    "claim_supported_right": "no",
    "claim_right": "another",
    "claim_url_right": "http://example.org",
    "claim_evidence_right": "it denies it",
    "errors_right": "2",
    "informativeness_right": "1",
    "relevance_right": "1",
    "overall_right": "2",
    "comparison": "3",
    "comment": "",
}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key of eight items for two raters."""
    folder = tmp_path_factory.mktemp("task")
    model = write_generations(folder / "model.parquet", "aligned", {q: f"one {q}" for q in range(8)})
    baseline = write_generations(folder / "baseline.parquet", "sft", {q: f"two {q}" for q in range(8)})
    export_task(model, baseline, folder / "task", "qwen", "forest", ["ann", "bob"], seed=2)
    return folder / "task" / "key.parquet"


@pytest.fixture
def rows(key: Path) -> list[Row]:
    """All 16 rows, filled in: the left answer is by far the better one."""
    return [{**ids, **FILLED} for ids in pl.read_parquet(key).select("task_id", "item_id", "rater_id").to_dicts()]


def written(rows: list[Row], file: Path) -> Path:
    content = io.StringIO()
    writer = csv.DictWriter(content, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    file.write_text(content.getvalue(), newline="")
    return file


def test_left_becomes_the_model_or_the_baseline(key: Path, rows: list[Row], tmp_path: Path) -> None:
    ratings = import_ratings(key, [written(rows, tmp_path / "all.csv")])
    assert dict(ratings.schema) == RATINGS
    assert set(ratings["order"]) == {"model_first", "baseline_first"}
    for row in ratings.to_dicts():
        ours, theirs = ("model", "baseline") if row["order"] == "model_first" else ("baseline", "model")
        assert row["comparison"] == (3 if ours == "model" else -3)
        expected = {
            "claim_supported": (True, False),
            "claim": ("the claim", "another"),
            "claim_url": ("https://example.org", "http://example.org"),
            "claim_evidence": ("it says so", "it denies it"),
            "errors": (0, 2),
            "informativeness": (5, 1),
            "relevance": (4, 1),
            "overall": (5, 2),
        }
        for name, values in expected.items():
            assert (row[f"{name}_{ours}"], row[f"{name}_{theirs}"]) == values
        assert (row["answer_model"], row["answer_baseline"]) == (
            f"one {row['question_id']}",
            f"two {row['question_id']}",
        )
        assert (row["model"], row["baseline_revision"], row["comment"]) == ("aligned", "sft-revision", None)


def test_the_order_of_files_and_rows_does_not_matter(key: Path, rows: list[Row], tmp_path: Path) -> None:
    whole = import_ratings(key, [written(rows, tmp_path / "all.csv")])
    files = [written(rows[::-2], tmp_path / "a.csv"), written(rows[-2::-2], tmp_path / "b.csv")]
    assert import_ratings(key, files).equals(whole)
    assert whole["rater_id"].to_list() == ["ann"] * 8 + ["bob"] * 8


def test_a_sheet_saved_by_a_spreadsheet(key: Path, rows: list[Row], tmp_path: Path) -> None:
    """With a byte order mark, columns in another order, others added, spaces around."""
    changed = [{"note": "x", **dict(reversed(row.items())), "overall_left": " 5 "} for row in rows[:3]]
    file = written(changed, tmp_path / "sheet.csv")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert import_ratings(key, [file]).height == 3


def test_nothing_to_look_up(key: Path, rows: list[Row], tmp_path: Path) -> None:
    row = rows[0] | {"claim_supported_left": "nothing", "claim_left": "left over", "claim_url_left": ""}
    (rated,) = import_ratings(key, [written([row], tmp_path / "a.csv")]).to_dicts()
    whose = "model" if rated["order"] == "model_first" else "baseline"
    names = ("claim_supported", "claim", "claim_url", "claim_evidence")
    assert [rated[f"{name}_{whose}"] for name in names] == [None] * 4


BAD: dict[str, tuple[Callable[[Row], Row], str]] = {
    "unknown item": (lambda row: row | {"item_id": "ffff"}, "item 'ffff' of rater 'ann' is not in the key"),
    "unknown rater": (lambda row: row | {"rater_id": "eve"}, "of rater 'eve' is not in the key"),
    "another task": (lambda row: row | {"task_id": "0123"}, "belongs to task '0123', the key to"),
    "out of range": (lambda row: row | {"overall_right": "6"}, "overall_right is '6'; it must be one of 1, 2, 3, 4, 5"),
    "not a number": (lambda row: row | {"errors_left": "none"}, "errors_left is 'none'; it must be one of 0, 1, 2"),
    "not whole": (lambda row: row | {"comparison": "1.5"}, "comparison is '1.5'; it must be one of 3, 2, 1, 0, -1"),
    "odd zero": (lambda row: row | {"comparison": "+0"}, "comparison is '+0'"),
    "too far": (lambda row: row | {"comparison": "-4"}, "comparison is '-4'"),
    "not rated": (lambda row: row | {"relevance_left": " "}, "relevance_left is empty; it must be one of 1, 2, 3, 4"),
    "no claim check": (lambda row: row | {"claim_supported_left": ""}, "claim_supported_left is empty"),
    "no evidence": (lambda row: row | {"claim_evidence_right": ""}, "claim_evidence_right is empty, though the claim"),
    "no address": (lambda row: row | {"claim_url_left": "javascript:alert(1)"}, "which is not the address of a page"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_line(kind: str, key: Path, rows: list[Row], tmp_path: Path) -> None:
    spoil, message = BAD[kind]
    rows[0]["comment"] = "two\nlines"
    file = written([rows[0], rows[1], spoil(rows[2])], tmp_path / "ann.csv")
    with pytest.raises(IfllmError) as raised:
        import_ratings(key, [file])
    assert str(raised.value).startswith(f"{file}, line 5: ")  # the head, two lines, one line
    assert message in str(raised.value)


def test_rated_twice(key: Path, rows: list[Row], tmp_path: Path) -> None:
    one, other = written(rows[:2], tmp_path / "a.csv"), written([rows[5], rows[1]], tmp_path / "b.csv")
    with pytest.raises(IfllmError, match=f"{other}, line 3: .* already rated, in {one}, line 3"):
        import_ratings(key, [one, other])


@pytest.mark.parametrize("field", ["item_id", *FIELDS])
def test_missing_column(field: str, key: Path, rows: list[Row], tmp_path: Path) -> None:
    del rows[0][field]
    with pytest.raises(IfllmError, match=f"lacks the column '{field}'"):
        import_ratings(key, [written(rows[:1], tmp_path / "a.csv")])


def test_files_that_are_none(key: Path, rows: list[Row], tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    with pytest.raises(IfllmError, match="cannot be read as UTF-8 CSV"):
        import_ratings(key, [file])
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IfllmError, match="cannot be read as UTF-8 CSV"):
        import_ratings(key, [file])
    file.write_bytes(b"")
    with pytest.raises(IfllmError, match="lacks the column 'task_id'"):
        import_ratings(key, [file])
    content = written(rows[:2], file).read_text()
    file.write_text(content.rstrip() + ",surplus\n")
    with pytest.raises(IfllmError, match="line 3: has 22 fields, but the header has 21"):
        import_ratings(key, [file])
    file.write_text(content[: content.index("\n") + 1])
    with pytest.raises(IfllmError, match="No ratings in"):
        import_ratings(key, [file])
    pl.DataFrame({"item_id": ["a"]}).write_parquet(tmp_path / "no_key.parquet")
    with pytest.raises(IfllmError, match="lacks the column 'task_id'"):
        import_ratings(tmp_path / "no_key.parquet", [file])
