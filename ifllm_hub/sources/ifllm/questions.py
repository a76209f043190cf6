"""The three tables of the release -> one clean row per question (a turn: one query and one or two answers)."""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TypedDict

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.archive import Release
from ifllm_hub.sources.ifllm.lines import bad_byte, unreadable

_LOG_COLUMNS = (
    "query_ID",
    "user_id",
    "task_id",
    "user_query",
    "llm_response_1",
    "llm_response_2",
    "llm_name_1",
    "llm_name_2",
    "likert_1",
    "likert_2",
    "preference",
    "adjustment",
    "query_timestamp",
)
_TASK_COLUMNS = ("user_id", "task_id", "finished")
_RECORD_COLUMNS = ("user_id", "consent")

_CLOCK_ERROR = pl.duration(hours=4)
# How the tables write a missing value.
_EMPTY, _NULL = "", "NULL"
_PAIRWISE = pl.col("pairwise")
# The conversation and the time of a row, in the form that other modules see.
_PLACE = {
    "conversation_id": pl.format("{}/{}", "worker_id", "task_id"),
    "asked_at": pl.col("asked_at").dt.epoch("ms"),
}


class TableCounts(TypedDict):
    """For the manifest: how many rows the tables had, and how often each repair was needed."""

    rows: int
    questions: int
    unanswered_dropped: int
    without_consent_dropped: int
    identical_rows_dropped: int
    duplicate_task_rows: int
    duplicate_record_rows: int
    rows_with_cr_lf_removed: int
    clock_4h_corrected: int
    without_date: int
    ai_errors: int


@dataclass(frozen=True)
class Cleaned:
    """The questions, and what became of the other rows.

    Attributes:
        questions: see `read_questions`.
        counts: of the rows, and of the repairs.
        unanswered: when the questions that were dropped for lack of an answer were asked: `conversation_id`, `asked_at`
            (as in `questions`). What was recorded after one does not belong to the question before it.
    """

    questions: pl.DataFrame
    counts: TableCounts
    unanswered: pl.DataFrame


def read_questions(release: Release, leave_out: Collection[str] = ()) -> Cleaned:
    """Read and clean the tables.

    Args:
        leave_out: workers whose rows are skipped, as if they had never been in the tables.

    Returns:
        One row per question in (worker_id, task_id, turn) order: `question_id` (Int64), `worker_id`, `task_id` (Int64),
        `conversation_id` ("worker/task"), `turn` (Int64, from 1), `mode` ("pairwise" or "pointwise"), `query`,
        `response_left`, `response_right`, `model_left`, `model_right`, `rating_left`, `rating_right` (Int64, 1-5),
        `preference` ("left", "right" or null), `better_than_previous` (Boolean or null), `bullet_points` (Boolean),
        `asked_at` (Int64, Unix ms, UTC, rounded down to 1 s; null where no date is given), `ai_error` (Boolean: an
        answer is an error message of the study's server), `excluded_worker` (Boolean: on the authors' list).

    Raises:
        IfllmError: a table is damaged, lacks a column, or holds a value outside its code.
    """
    source, task_source = release.root / "query_logs_table.csv", release.root / "task_table.csv"
    stays = ~pl.col("user_id").is_in(sorted(leave_out))
    log, cr_lf = _without_cr_lf(_read_table(source, _LOG_COLUMNS).filter(stays))
    tasks = _read_table(task_source, _TASK_COLUMNS).filter(stays)
    records = _read_table(release.root / "record_info_table.csv", _RECORD_COLUMNS).filter(stays)

    log = _with_answers(log, release)
    is_answered = pl.col("llm_response_1").is_not_null() & (pl.col("llm_response_2").is_not_null() | ~_PAIRWISE)
    answered, dropped = log.filter(is_answered), log.filter(~is_answered)
    # An empty field is not consent: without the fill, all() would ignore it.
    yes = (pl.col("consent") == "1").fill_null(False).all()
    consenting = records.group_by("user_id").agg(yes=yes).filter("yes")["user_id"]
    consented = answered.filter(pl.col("user_id").is_in(consenting.implode()))
    questions = _typed(consented.unique(maintain_order=True), source)
    repeated = questions.filter(pl.col("question_id").is_duplicated())["question_id"]
    if len(repeated):
        raise IfllmError(f"{source}: query_ID {repeated[0]} is on two different rows. Unpack the release again.")

    finished = (
        tasks.select(
            "user_id",
            task_id=_integer(tasks, "task_id", task_source),
            at=_date(tasks, "finished", task_source),
        )
        .rename({"user_id": "worker_id"})
        .group_by("worker_id", "task_id")
        .agg(finished=pl.col("at").max())
    )
    questions = _by_the_right_clock(questions, finished)
    times = dropped.select(
        worker_id="user_id",
        task_id=_integer(dropped, "task_id", source),
        asked_at=_date(dropped, "query_timestamp", source),
    )
    corrected = int(questions["clock_late"].sum())
    questions = (
        # Sorted by id, which orders every conversation as dates do, so that a turn without a date has its place too.
        questions.sort("worker_id", "task_id", "question_id")
        .with_columns(
            turn=pl.int_range(1, pl.len() + 1).over("worker_id", "task_id"),
            **_PLACE,
            ai_error=pl.any_horizontal(
                pl.col("response_left", "response_right").str.starts_with("AI Error").fill_null(False)
            ),
            excluded_worker=pl.col("worker_id").is_in(excluded_workers()),
        )
        .select(_COLUMNS)
    )
    counts: TableCounts = {
        "rows": log.height,
        "questions": questions.height,
        "unanswered_dropped": dropped.height,
        "without_consent_dropped": answered.height - consented.height,
        "identical_rows_dropped": consented.height - questions.height,
        "duplicate_task_rows": tasks.height - tasks.select("user_id", "task_id").n_unique(),
        "duplicate_record_rows": records.height - records["user_id"].n_unique(),
        "rows_with_cr_lf_removed": cr_lf,
        "clock_4h_corrected": corrected,
        "without_date": int(questions["asked_at"].null_count()),
        "ai_errors": int(questions["ai_error"].sum()),
    }
    unanswered = _by_the_right_clock(times, finished).select(**_PLACE).unique(maintain_order=True)
    return Cleaned(questions, counts, unanswered)


def _by_the_right_clock(rows: pl.DataFrame, finished: pl.DataFrame) -> pl.DataFrame:
    """Correct `asked_at` where it is later than the end of its task; `clock_late` marks these rows."""
    late = (pl.col("finished") < pl.col("asked_at")).fill_null(False)
    return rows.join(finished, on=["worker_id", "task_id"], how="left", maintain_order="left").with_columns(
        clock_late=late,
        asked_at=pl.when(late).then(pl.col("asked_at") - _CLOCK_ERROR).otherwise(pl.col("asked_at")),
    )


def excluded_workers() -> list[str]:
    """The 24 workers the authors left out, from `excluded_workers.txt` (which states its origin)."""
    text = resources.files("ifllm_hub.sources.ifllm").joinpath("excluded_workers.txt").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


_COLUMNS = (
    "question_id",
    "worker_id",
    "task_id",
    "conversation_id",
    "turn",
    "mode",
    "query",
    "response_left",
    "response_right",
    "model_left",
    "model_right",
    "rating_left",
    "rating_right",
    "preference",
    "better_than_previous",
    "bullet_points",
    "asked_at",
    "ai_error",
    "excluded_worker",
)


def _read_table(path: Path, columns: tuple[str, ...]) -> pl.DataFrame:
    """All columns as text; an empty field or the word NULL is null, except in answers. No record may lack a field."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8").removeprefix("\ufeff")
    except OSError as error:
        raise unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise bad_byte(path, content, error.start, "is not UTF-8") from error
    if b"\0" in content:
        raise bad_byte(path, content, content.index(b"\0"), "is a control character")
    if text.count("\n") == text.count("\r\n"):  # a checkout on Windows changes line ends inside answers too
        text = text.replace("\r\n", "\n")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    limit = csv.field_size_limit(len(text))
    try:
        header = next(reader, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise IfllmError(f"{path}: the column {missing[0]} is missing; found {', '.join(header)}.")
        places = [header.index(name) for name in columns]
        rows = []
        for row in reader:
            if row and len(row) != len(header):
                raise IfllmError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, expected {len(header)}. Unpack it again."
                )
            rows += [[row[i] for i in places]] if row else []
    except csv.Error as error:
        raise IfllmError(f"{path}, line {reader.line_num}: not a CSV table ({error}). Unpack it again.") from error
    finally:
        csv.field_size_limit(limit)
    table = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    coded = pl.exclude("llm_response_1", "llm_response_2")
    return table.with_columns(pl.when(~coded.is_in([_EMPTY, _NULL])).then(coded))


def _without_cr_lf(log: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """Delete CR/LF pairs: an artifact of the export that, as the recorded windows show, was never on screen."""
    affected = log.filter(pl.any_horizontal(pl.all().str.contains("\r\n", literal=True))).height
    return log.with_columns(pl.all().str.replace_all("\r\n", "", literal=True)), affected


def _with_answers(log: pl.DataFrame, release: Release) -> pl.DataFrame:
    """Add `pairwise`, which does not depend on what was answered, and make missing answers null.

    A question is pairwise if a second LLM is named, the site recorded two answers, or there are two. In a pair, NULL
    beside another answer is what an LLM wrote; anywhere else it is the table's mark for a missing answer.
    """
    recorded = [(task.worker_id, str(task.task_id)) for task in release.tasks if task.pairwise]
    pairs = pl.DataFrame(recorded, schema={"user_id": pl.String, "task_id": pl.String}, orient="row")
    first, second = pl.col("llm_response_1"), pl.col("llm_response_2")
    given = [~answer.is_in([_EMPTY, _NULL]) for answer in (first, second)]
    log = log.join(pairs.with_columns(two=True), on=["user_id", "task_id"], how="left", maintain_order="left")
    log = log.with_columns(pairwise=pl.col("llm_name_2").is_not_null() | pl.col("two").fill_null(False) | given[1])
    return log.drop("two").with_columns(
        pl.when(given[0] | _PAIRWISE & given[1] & (first == _NULL)).then(first),
        pl.when(given[1] | _PAIRWISE & given[0] & (second == _NULL)).then(second),
    )


def _typed(log: pl.DataFrame, path: Path) -> pl.DataFrame:
    code = _code(log, "preference", {0, 1, 2}, path)
    typed = log.select(
        question_id=_integer(log, "query_ID", path),
        worker_id="user_id",
        task_id=_integer(log, "task_id", path),
        mode=pl.when(_PAIRWISE).then(pl.lit("pairwise")).otherwise(pl.lit("pointwise")),
        query=pl.col("user_query").fill_null(""),
        response_left="llm_response_1",
        response_right="llm_response_2",
        model_left="llm_name_1",
        model_right="llm_name_2",
        rating_left=_code(log, "likert_1", {1, 2, 3, 4, 5}, path),
        rating_right=_code(log, "likert_2", {1, 2, 3, 4, 5}, path),
        preference=pl.when(_PAIRWISE & (code == 1))
        .then(pl.lit("left"))
        .when(_PAIRWISE & (code == 2))
        .then(pl.lit("right")),
        better_than_previous=pl.when(~_PAIRWISE).then(code == 1),
        bullet_points=_code(log, "adjustment", {0, 1}, path) == 1,
        asked_at=_date(log, "query_timestamp", path),
        code=code,
    )
    wrong = typed.filter(pl.when(pl.col("mode") == "pairwise").then(pl.col("code") == 0).otherwise(pl.col("code") == 2))
    if wrong.height:
        row = wrong.row(0, named=True)
        raise IfllmError(
            f"{path}: query_ID {row['question_id']} is {row['mode']} but has preference code {row['code']} "
            "(pairwise: 1 left, 2 right; pointwise: 1 better, 0 worse than the previous answer)."
        )
    return typed.drop("code")


def _integer(table: pl.DataFrame, column: str, path: Path) -> pl.Series:
    values = table[column].cast(pl.Int64, strict=False)
    _refuse(table, column, values.is_null(), path, "an integer")
    return values


def _code(table: pl.DataFrame, column: str, allowed: set[int], path: Path) -> pl.Series:
    """Codes are stored as floats ("2.0"); an empty field is null."""
    values = table[column].cast(pl.Float64, strict=False)
    wrong = table[column].is_not_null() & ~values.is_in(sorted(map(float, allowed))).fill_null(False)
    _refuse(table, column, wrong, path, f"one of {', '.join(map(str, sorted(allowed)))}")
    return values.cast(pl.Int64)


def _refuse(table: pl.DataFrame, column: str, wrong: pl.Series, path: Path, expected: str) -> None:
    if wrong.any():
        row = int(wrong.arg_true()[0])
        raise IfllmError(f"{path}, data row {row + 1}: {column} is {table[column][row]!r}, expected {expected}.")


def _date(table: pl.DataFrame, column: str, path: Path) -> pl.Series:
    """UTC by the client's clock, to 1 s; `0000-00-00 00:00:00` and an empty field are null."""
    dates = table[column].str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False, time_unit="ms")
    given = (table[column] != "0000-00-00 00:00:00").fill_null(False)
    _refuse(table, column, given & dates.is_null(), path, "a date like 2025-10-31 23:59:59")
    return dates
