"""The three tables become clean questions: checked against the simulation's truth and on small tables by hand."""

import csv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import Release, TaskFolder
from ifllm_hub.sources.ifllm.questions import Cleaned, excluded_workers, read_questions
from tests.slow_reader import read_table

LOG = "query_logs_table.csv"
TASKS = "task_table.csv"
RECORDS = "record_info_table.csv"
HEADERS = {
    LOG: "query_ID,user_id,task_id,user_query,llm_response_1,llm_response_2,llm_name_1,llm_name_2,likert_1,likert_2,"
    "preference,adjustment,query_timestamp",
    TASKS: "user_id,task_id,summary,finished",
    RECORDS: "user_id,consent,age",
}
PAIR: dict[str, Any] = {
    "query_ID": 5,
    "user_id": "ann",
    "task_id": 11,
    "user_query": "why?",
    "llm_response_1": "because",
    "llm_response_2": "why not",
    "llm_name_1": "m1",
    "llm_name_2": "m2",
    "likert_1": "4.0",
    "likert_2": "2.0",
    "preference": "1.0",
    "adjustment": "0",
    "query_timestamp": "2025-10-20 12:00:00",
}
SINGLE = PAIR | {"task_id": 12, "llm_response_2": "", "llm_name_2": "", "likert_2": "", "preference": ""}
ANN = {"user_id": "ann", "consent": "1", "age": "30.0"}
NOON = int(datetime(2025, 10, 20, 12, tzinfo=UTC).timestamp() * 1000)


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, HEADERS[name].split(","), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(
    folder: Path,
    log: list[dict[str, Any]],
    tasks: list[dict[str, Any]] | None = None,
    records: list[dict[str, Any]] | None = None,
) -> Cleaned:
    write(folder, LOG, log)
    write(folder, TASKS, tasks or [])
    write(folder, RECORDS, [ANN] if records is None else records)
    return read_questions(Release(folder, ()))


def only(cleaned: Cleaned) -> dict[str, Any]:
    assert cleaned.questions.height == 1
    return cleaned.questions.row(0, named=True)


# --- against the simulation


@pytest.fixture(scope="module")
def cleaned(release: Release) -> Cleaned:
    return read_questions(release)


@pytest.fixture(scope="module")
def truth(simulated: Path) -> pl.DataFrame:
    return pl.read_parquet(simulated / "ground_truth.parquet")


def test_every_question_comes_back_as_it_was(cleaned: Cleaned, truth: pl.DataFrame) -> None:
    found = {row["question_id"]: row for row in cleaned.questions.iter_rows(named=True)}
    assert list(found) == sorted(found, key=lambda q: (found[q]["worker_id"], found[q]["task_id"], q))
    assert found.keys() == set(truth["question_id"])
    for true in truth.iter_rows(named=True):
        row = found[true["question_id"]]
        for name in ("worker_id", "task_id", "turn", "mode", "ai_error"):
            assert row[name] == true[name]
        assert row["asked_at"] == (None if true["no_date"] else true["asked_at"])
        assert row["conversation_id"] == f"{true['worker_id']}/{true['task_id']}"
        assert (row["rating_left"] is None) == true["unlabeled"]
        assert (row["rating_right"] is None) == (true["unlabeled"] or true["mode"] == "pointwise")
        flipped, latent = true["label_flipped"], true["latent_preference"]
        if true["mode"] == "pairwise":
            other = {"left": "right", "right": "left"}[latent]
            assert row["preference"] == (None if flipped is None else other if flipped else latent)
            assert row["better_than_previous"] is None
        else:
            better = true["latent_better_than_previous"]
            assert row["better_than_previous"] == (None if flipped is None else better != flipped)
            assert row["preference"] is None


def test_texts_are_what_was_on_screen(cleaned: Cleaned, release: Release, truth: pl.DataFrame) -> None:
    log = {int(row["query_ID"]): row for row in read_table(release.root / LOG)}
    columns = {
        "query": "user_query",
        "response_left": "llm_response_1",
        "response_right": "llm_response_2",
        "model_left": "llm_name_1",
        "model_right": "llm_name_2",
    }
    changed = set()
    for row in cleaned.questions.iter_rows(named=True):
        for name, original in columns.items():
            raw = log[row["question_id"]][original]
            assert row[name] == (raw.replace("\r\n", "") or None)
            changed |= {row["question_id"]} if "\r" in raw else set()
        assert row["bullet_points"] == (log[row["question_id"]]["adjustment"] == "1")
    assert changed == set(truth.filter(pl.col("cr_lf") | pl.col("model_cr_lf"))["question_id"])


def test_repairs_are_counted(cleaned: Cleaned, truth: pl.DataFrame) -> None:
    assert cleaned.counts == {
        "rows": truth.height,
        "questions": truth.height,
        "unanswered_dropped": 0,
        "without_consent_dropped": 0,
        "identical_rows_dropped": 0,
        "duplicate_task_rows": 1,
        "duplicate_record_rows": 1,
        "rows_with_cr_lf_removed": truth.filter(pl.col("cr_lf") | pl.col("model_cr_lf")).height,
        # A conversation that was never finished, or whose first turn has no date, cannot show its wrong clock.
        "clock_4h_corrected": truth["clock_error"].sum(),
        "without_date": truth["no_date"].sum(),
        "ai_errors": truth["ai_error"].sum(),
    }


# --- by hand


def test_a_pair(tmp_path: Path) -> None:
    assert only(read(tmp_path, [PAIR])) == {
        "question_id": 5,
        "worker_id": "ann",
        "task_id": 11,
        "conversation_id": "ann/11",
        "turn": 1,
        "mode": "pairwise",
        "query": "why?",
        "response_left": "because",
        "response_right": "why not",
        "model_left": "m1",
        "model_right": "m2",
        "rating_left": 4,
        "rating_right": 2,
        "preference": "left",
        "better_than_previous": None,
        "bullet_points": False,
        "asked_at": NOON,
        "ai_error": False,
        "excluded_worker": False,
    }


@pytest.mark.parametrize(
    ("row", "preference", "better"),
    [
        pytest.param(PAIR | {"preference": "1.0"}, "left", None, id="pair-1"),
        pytest.param(PAIR | {"preference": "2.0"}, "right", None, id="pair-2"),
        pytest.param(PAIR | {"preference": "2"}, "right", None, id="pair-2-as-integer"),
        pytest.param(PAIR | {"preference": ""}, None, None, id="pair-unlabeled"),
        pytest.param(PAIR | {"preference": "NULL"}, None, None, id="pair-null"),
        pytest.param(SINGLE | {"preference": "1.0"}, None, True, id="single-1"),
        pytest.param(SINGLE | {"preference": "0.0"}, None, False, id="single-0"),
        pytest.param(SINGLE, None, None, id="single-first-turn"),
    ],
)
def test_what_a_preference_code_means(
    tmp_path: Path, row: dict[str, Any], preference: str | None, better: bool | None
) -> None:
    question = only(read(tmp_path, [row]))
    assert (question["preference"], question["better_than_previous"]) == (preference, better)


@pytest.mark.parametrize(
    ("finished", "asked_at"),
    [
        pytest.param([], NOON, id="never-started"),
        pytest.param([""], NOON, id="never-finished"),
        pytest.param(["NULL"], NOON, id="null"),
        pytest.param(["2025-10-20 12:00:00"], NOON, id="same-second"),
        pytest.param(["2025-10-20 11:59:59"], NOON - 4 * 3_600_000, id="finished-before-it-was-asked"),
        pytest.param(["2025-10-20 08:30:00", "2025-10-20 12:30:00"], NOON, id="the-later-of-two-rows-counts"),
        pytest.param(["2025-10-20 11:00:00", ""], NOON - 4 * 3_600_000, id="an-empty-second-row"),
    ],
)
def test_a_clock_four_hours_late_is_corrected(tmp_path: Path, finished: list[str], asked_at: int) -> None:
    tasks = [{"user_id": "ann", "task_id": 11, "finished": at} for at in finished]
    other = [{"user_id": user, "task_id": task, "finished": "2025-10-01 00:00:00"} for user, task in [("bob", 11)]]
    cleaned = read(tmp_path, [PAIR], tasks + other)
    assert only(cleaned)["asked_at"] == asked_at
    assert cleaned.counts["clock_4h_corrected"] == (asked_at != NOON)
    assert cleaned.counts["duplicate_task_rows"] == max(0, len(finished) - 1)


def test_a_turn_without_a_date_keeps_its_place(tmp_path: Path) -> None:
    second = PAIR | {"query_ID": 9, "query_timestamp": "0000-00-00 00:00:00"}
    third = PAIR | {"query_ID": 12}
    cleaned = read(tmp_path, [third, second, PAIR, PAIR | {"query_ID": 1, "task_id": 13}])
    rows = cleaned.questions.select("conversation_id", "question_id", "turn", "asked_at").rows()
    assert rows == [("ann/11", 5, 1, NOON), ("ann/11", 9, 2, None), ("ann/11", 12, 3, NOON), ("ann/13", 1, 1, NOON)]
    assert cleaned.counts["without_date"] == 1


def test_cr_lf_vanishes_and_other_line_ends_stay(tmp_path: Path) -> None:
    row = PAIR | {"llm_response_1": "be\r\ncause\nof\rit", "llm_name_2": "org/\r\nmodel", "user_query": 'say "a, b"'}
    cleaned = read(tmp_path, [row, PAIR | {"query_ID": 6}])
    question = cleaned.questions.row(0, named=True)
    assert question["response_left"] == "because\nof\rit"
    assert question["model_right"] == "org/model"
    assert question["query"] == 'say "a, b"'
    assert cleaned.counts["rows_with_cr_lf_removed"] == 1


def test_who_did_not_consent_is_nowhere(tmp_path: Path) -> None:
    users = ["ann", "bob", "cid", "dan", "eve"]
    records = [ANN, ANN, {"user_id": "bob", "consent": "0"}, {"user_id": "dan", "consent": ""}]
    records += [{"user_id": "eve", "consent": "1"}, {"user_id": "eve", "consent": "0"}]
    cleaned = read(tmp_path, [PAIR | {"query_ID": i, "user_id": user} for i, user in enumerate(users)], None, records)
    assert cleaned.questions["worker_id"].to_list() == ["ann"]
    assert cleaned.counts["without_consent_dropped"] == 4
    assert cleaned.counts["duplicate_record_rows"] == 2


def test_dropped_rows_are_counted(tmp_path: Path) -> None:
    cleaned = read(tmp_path, [PAIR, PAIR, PAIR | {"query_ID": 6, "llm_response_1": ""}])
    assert only(cleaned)["question_id"] == 5
    counted = {"rows": 3, "questions": 1, "identical_rows_dropped": 1, "unanswered_dropped": 1}
    assert cleaned.counts | counted == cleaned.counts


@pytest.mark.parametrize("preference", ["", "1.0", "2.0"])
@pytest.mark.parametrize("known_by", ["the name of the second LLM", "what the site recorded"])
def test_a_pair_without_its_second_answer_is_dropped_and_is_no_question_with_one(
    tmp_path: Path, preference: str, known_by: str
) -> None:
    row = PAIR | {"query_ID": 6, "llm_response_2": "", "preference": preference}
    recorded = ()
    if known_by == "what the site recorded":
        row |= {"llm_name_2": ""}
        recorded = (TaskFolder("ann", 11, tmp_path, pairwise=True), TaskFolder("ann", 12, tmp_path, pairwise=False))
    write(tmp_path, LOG, [PAIR, row, SINGLE | {"query_ID": 7}, SINGLE | {"query_ID": 8, "llm_response_1": "NULL"}])
    write(tmp_path, TASKS, [])
    write(tmp_path, RECORDS, [ANN])
    cleaned = read_questions(Release(tmp_path, recorded))
    assert cleaned.questions.select("question_id", "mode").rows() == [(5, "pairwise"), (7, "pointwise")]
    assert cleaned.counts["unanswered_dropped"] == 2


@pytest.mark.parametrize("side", ["1", "2"])
def test_the_word_null_beside_another_answer_is_what_an_llm_wrote(tmp_path: Path, side: str) -> None:
    question = only(read(tmp_path, [PAIR | {f"llm_response_{side}": "NULL", "preference": "2.0"}]))
    assert question["mode"] == "pairwise"
    assert question["preference"] == "right"
    assert question["response_left" if side == "1" else "response_right"] == "NULL"
    neither = PAIR | {"llm_response_1": "NULL", "llm_response_2": "NULL"}
    assert read(tmp_path, [neither, PAIR | {"query_ID": 6}]).counts["unanswered_dropped"] == 1
    single = only(read(tmp_path, [SINGLE | {"llm_response_2": "NULL", "llm_name_2": "NULL"}]))
    assert (single["mode"], single["response_right"]) == ("pointwise", None)


def test_a_checkout_with_the_line_ends_of_windows_reads_the_same(tmp_path: Path) -> None:
    log = [PAIR | {"llm_response_1": "two\nlines"}, PAIR | {"query_ID": 6}]
    expected = read(tmp_path, log)
    for name in (LOG, TASKS, RECORDS):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content.replace(b"\n", b"\r\n"))
    found = read_questions(Release(tmp_path, ()))
    assert found.questions.equals(expected.questions)
    assert found.counts == expected.counts


def test_an_answer_may_be_as_long_as_it_likes(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    text = "word " * 28_000
    assert len(text) > limit
    assert only(read(tmp_path, [PAIR | {"llm_response_1": text}]))["response_left"] == text
    assert csv.field_size_limit() == limit


def test_error_messages_of_the_server_and_excluded_workers_are_flagged(tmp_path: Path) -> None:
    barred = excluded_workers()[0]
    log = [
        PAIR,
        PAIR | {"query_ID": 6, "llm_response_2": "AI Error. Try again."},
        PAIR | {"query_ID": 7, "llm_response_1": "An AI Error is a mistake of an AI."},
        PAIR | {"query_ID": 8, "user_id": barred},
    ]
    cleaned = read(tmp_path, log, None, [ANN, {"user_id": barred, "consent": "1"}])
    flags = {row["question_id"]: (row["ai_error"], row["excluded_worker"]) for row in cleaned.questions.to_dicts()}
    assert flags == {5: (False, False), 6: (True, False), 7: (False, False), 8: (False, True)}
    assert cleaned.counts["ai_errors"] == 1


def test_the_exclusion_list_has_the_authors_24_workers() -> None:
    workers = excluded_workers()
    assert len(workers) == len(set(workers)) == 24
    assert all(worker.startswith("worker_") and len(worker) == len("worker_") + 8 for worker in workers)


# --- damage


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_ID": "x"}, r"query_logs_table\.csv, data row 2: query_ID is 'x', expected an integer"),
        ({"task_id": ""}, r"data row 2: task_id is None, expected an integer"),
        ({"likert_1": "6.0"}, r"data row 2: likert_1 is '6\.0', expected one of 1, 2, 3, 4, 5"),
        ({"likert_2": "0"}, r"likert_2 is '0'"),
        ({"likert_2": "4.5"}, r"likert_2 is '4\.5'"),
        ({"preference": "3.0"}, r"preference is '3\.0', expected one of 0, 1, 2"),
        ({"preference": "left"}, r"preference is 'left'"),
        ({"preference": "nan"}, r"preference is 'nan'"),
        ({"preference": "0.0"}, r"query_ID 9 is pairwise but has preference code 0 \(pairwise: 1 left, 2 right"),
        (
            {"llm_response_2": "", "llm_name_2": "", "preference": "2.0"},
            r"query_ID 9 is pointwise but has preference code 2",
        ),
        ({"adjustment": "2"}, r"adjustment is '2', expected one of 0, 1"),
        ({"query_timestamp": "2025-13-01 00:00:00"}, r"query_timestamp is '2025-13-01 00:00:00', expected a date"),
        ({"query_timestamp": "20 Oct 2025"}, r"query_timestamp is '20 Oct 2025', expected a date"),
        ({"query_ID": 5, "user_query": "else"}, r"query_ID 5 is on two different rows"),
    ],
)
def test_a_value_outside_its_code_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(IfllmError, match=message):
        read(tmp_path, [PAIR, PAIR | {"query_ID": 9} | change])


def test_a_bad_value_in_the_task_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"task_table\.csv, data row 1: finished is 'yes', expected a date"):
        read(tmp_path, [PAIR], [{"user_id": "ann", "task_id": 11, "finished": "yes"}])
    with pytest.raises(IfllmError, match=r"task_table\.csv, data row 1: task_id is '1\.5', expected an integer"):
        read(tmp_path, [PAIR], [{"user_id": "ann", "task_id": "1.5"}])


DAMAGE = {
    "invalid-utf8": (lambda b: b.replace(b"because", b"bec\xffuse"), r"line 3: byte 0xff at offset \d+ is not UTF-8"),
    "nul": (lambda b: b.replace(b"because", b"bec\0use"), r"line 3: byte 0x00 at offset \d+ is a control character"),
    "cut-in-a-field": (lambda b: b[: b.index(b"because")] + b'"bec', r"line 3: not a CSV table \(unexpected end"),
    "cut-between-fields": (lambda b: b[: b.index(b",m1", b.index(b"because"))], r"line 3: 6 fields, expected 13"),
    "a-field-too-many": (lambda b: b[:-1] + b",1\n", r"line 4: 14 fields, expected 13"),
    "text-after-a-quote": (lambda b: b.replace(b",because,", b',"be"cause,'), r"line 3: not a CSV table"),
    "empty": (lambda b: b"", r"the column query_ID is missing; found \."),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_table_is_named_with_the_line(tmp_path: Path, kind: str) -> None:
    damage, message = DAMAGE[kind]
    read(tmp_path, [PAIR | {"query_ID": 4, "llm_response_1": "x"}, PAIR, PAIR | {"query_ID": 6}])
    path = tmp_path / LOG
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(IfllmError, match=rf"query_logs_table\.csv(, |: ){message}"):
        read_questions(Release(tmp_path, ()))


@pytest.mark.parametrize(
    ("table", "column"),
    [(LOG, "query_timestamp"), (LOG, "llm_response_2"), (TASKS, "finished"), (RECORDS, "consent")],
)
def test_a_missing_column_is_named(tmp_path: Path, table: str, column: str) -> None:
    read(tmp_path, [PAIR])
    path = tmp_path / table
    path.write_text(path.read_text().replace(column, "other", 1))
    with pytest.raises(IfllmError, match=rf"{table}: the column {column} is missing; found .*other"):
        read_questions(Release(tmp_path, ()))


def test_a_byte_order_mark_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    read(tmp_path, [PAIR])
    path = tmp_path / LOG
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\n")
    assert only(read_questions(Release(tmp_path, ())))["question_id"] == 5
