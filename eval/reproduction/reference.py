"""The paper's features as the paper's code computes them, from the raw release; each of its quirks is a switch.

The reference reads the rel_ files with Python's csv module, whose dialect does not fit them; assigns each line to the
earliest answer of the conversation that has the recorded window near the recorded offset; assigns lines off a panel to
the answer matched last; and measures reviewing over whole conversations (docs/format.md 7). Its tables of counts
(`all_metrics`) come from a second matcher, which assigns a line to the answer whose first match came last.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from eval.reproduction.features import (
    MODALITIES,
    MODALITY,
    SIDE,
    SIDES,
    blank_unseen,
    derive_pairwise,
    derive_pointwise,
    measure_pairwise,
    measure_pointwise,
)
from ifllm_hub.sources.ifllm.archive import Release, TaskFolder
from ifllm_hub.sources.ifllm.lines import count_columns, parse_files
from ifllm_hub.sources.ifllm.questions import read_questions

# The site's placeholder, shown where the answer will be.
_PROMPT = (
    "After you type your question, please wait patiently. It might take up to 1 minute for AI to finish generating "
    "their answer. The AI's response will show up here."
)
# A window is searched for within this many characters of the recorded offset.
_REACH = 15
# Conversations per batch, which bounds the memory.
_BATCH = 48


@dataclass(frozen=True)
class Corrections:
    """The corrections to switch on. With all off, the features are the reference's, bug for bug.

    Attributes:
        lost_rows: a line is a physical line; csv quoting loses 13,183 of them and breaks 2,610 (B2).
        clock: ticks are ordered, and pauses measured, by the epoch and not by the page timer, which starts anew when
            the page is loaded again and runs twice in parallel tabs.
        texts: CR LF pairs, which the export put into 28 answers and which were never on screen, are removed.
        empty_window: a tick on a panel but on no text is time spent on the question being read; an empty window
            matches every text, so the reference mistakes it for the study's placeholder (B3).
        attribution: a tick belongs to the answer that was on screen, and is on its text only if the recorded window
            occurs there (B6).
        per_question_phases: reviewing and composing of pairs are those of the question, not of the conversation,
            which spans other questions and the time after the rating (B4, B5).
        ties: if both answers were read equally far, neither was read further, instead of the right one (B15).
        missing: what was not observed is null instead of 0 (for offsets and, if an answer was never looked at, its
            length: -1, B10).
    """

    lost_rows: bool = False
    clock: bool = False
    texts: bool = False
    empty_window: bool = False
    attribution: bool = False
    per_question_phases: bool = False
    ties: bool = False
    missing: bool = False


def reference_features(release: Release, corrections: Corrections = Corrections()) -> pl.DataFrame:
    """Every feature of both task types, one row per question for which the reference has a row.

    Returns:
        `question_id`, `conversation_id`, `mode` (by the files that exist, as in the reference) and Float64 columns:
        those of pairs are null for single answers, and the other way round.

    Raises:
        IfllmError: a file or table cannot be read.
    """
    questions = _questions(release, corrections)
    tables = []
    for pairwise in (False, True):
        answered = pl.col("length_right" if pairwise else "length_left") > 0
        tasks = [task for task in release.tasks if task.pairwise == pairwise]
        for start in range(0, len(tasks), _BATCH):
            batch = tasks[start : start + _BATCH]
            names = [_conversation(task) for task in batch]
            asked = questions.filter(pl.col("conversation_id").is_in(names))
            ticks = pl.concat(list(_ticks(batch, asked, corrections)))
            tables.append(_table(ticks, asked.filter(answered), pairwise, corrections))
    return pl.concat(tables, how="diagonal").sort("question_id")


def _conversation(task: TaskFolder) -> str:
    return f"{task.worker_id}/{task.task_id}"


def _questions(release: Release, corrections: Corrections) -> pl.DataFrame:
    """The log as the reference reads it, in the order in which its matcher tries the answers; with corrected dates.

    Columns: `question_id`, `conversation_id`, `order` (null without a date: never tried), `response_left/right`,
    `length_left/right/query` (code points), `asked_at` (ms, null where the corrected table has no date).
    """
    log = pl.read_csv(release.root / "query_logs_table.csv", infer_schema=False, glob=False)
    line_end = "" if corrections.texts else "\n"
    texts = {"query": "user_query", "response_left": "llm_response_1", "response_right": "llm_response_2"}
    date = pl.col("query_timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False)
    questions = log.select(
        question_id=pl.col("query_ID").cast(pl.Int64),
        conversation_id=pl.format("{}/{}", "user_id", "task_id"),
        order=pl.when(date.is_not_null()).then(date.rank("ordinal")),
        **{
            name: pl.col(column).fill_null("").replace("NULL", "").str.replace_all("\r\n", line_end, literal=True)
            for name, column in texts.items()
        },
    )
    dates = read_questions(release).questions.select("question_id", "asked_at")
    return questions.with_columns(
        pl.col("response_left", "response_right")
        .str.len_chars()
        .name.map(lambda name: name.replace("response", "length")),
        length_query=pl.col("query").str.len_chars(),
    ).join(dates, on="question_id", how="left", maintain_order="left")


def _ticks(tasks: list[TaskFolder], questions: pl.DataFrame, corrections: Corrections) -> Iterator[pl.DataFrame]:
    """The tick table of some conversations, one frame per file name."""
    for name in (name for name in tasks[0].files if name.startswith("rel_")):
        side = "right" if Path(name).stem.endswith(("_two", "_right")) else "left"
        modality = "mouse" if name.startswith("rel_mouse") else "gaze"
        read = _physical_lines if corrections.lost_rows else _csv_records
        records = read([task.path / name for task in tasks]).with_columns(
            pl.col("window").str.strip_chars().str.replace_all(r"[\r\n]", " "),
            conversation_id=pl.col("file").replace_strict(
                dict(enumerate(map(_conversation, tasks))), return_dtype=pl.String
            ),
            on_panel=~((pl.col("x") == -1) & (pl.col("y") == -1)),
            t=pl.col("epoch" if corrections.clock else "page_timer"),
        )
        give = _shown if corrections.attribution else _first_match
        ticks = give(records, questions, side, corrections)
        yield ticks.select(
            "question_id",
            "shown_id",
            "conversation_id",
            pl.lit(modality, MODALITY).alias("modality"),
            pl.lit(side, SIDE).alias("side"),
            "t",
            "on_panel",
            "char",
            "face_ok",
        )


_RECORD = {"file": pl.Int32, "x": pl.Float64, "y": pl.Float64, "window": pl.String, "char": pl.Int64}
_RECORD |= {"page_timer": pl.Float64, "face_ok": pl.Boolean, "epoch": pl.Float64}


def _csv_records(paths: list[Path]) -> pl.DataFrame:
    """What the csv module makes of the files: an inner quote ends the quoting, and the next may swallow lines."""
    frames = [pl.DataFrame(schema=_RECORD)]
    for number, path in enumerate(paths):
        with path.open(encoding="utf-8") as file:
            # Files of 6 columns have no flag; the reference counts the face as found.
            rows = [row if len(row) == 7 else [*row[:5], "1", row[5]] for row in csv.reader(file) if len(row) in (6, 7)]
        columns = zip(
            ("x", "y", "window", "char", "page_timer", "face_ok", "epoch"), zip(*rows, strict=True), strict=True
        )
        frames.append(
            pl.DataFrame(dict(columns), schema_overrides=dict.fromkeys(("x",), pl.String)).select(
                pl.lit(number, pl.Int32).alias("file"),
                pl.col("x", "y").cast(pl.Float64, strict=False),
                "window",
                pl.col("char").cast(pl.Float64, strict=False).cast(pl.Int64).fill_null(-1),
                pl.col("page_timer").cast(pl.Float64, strict=False),
                pl.col("face_ok") == "1",
                pl.col("epoch").cast(pl.Float64, strict=False),
            )
        )
    return pl.concat(frames).drop_nulls()


def _physical_lines(paths: list[Path]) -> pl.DataFrame:
    """Every line that can be parsed."""
    layouts: dict[int, list[int]] = {}
    for number, path in enumerate(paths):
        layouts.setdefault(count_columns(path), []).append(number)
    frames = [pl.DataFrame(schema=_RECORD)]
    for columns, numbers in layouts.items():
        rows = parse_files([paths[number] for number in numbers], columns).rows.filter("ok")
        frames.append(
            rows.select(
                pl.Series(numbers, dtype=pl.Int32).gather(rows["file"]).alias("file"),
                "x",
                "y",
                pl.col("window").fill_null(""),
                pl.col("index").cast(pl.Int64).fill_null(-1).alias("char"),
                "page_timer",
                pl.col("face_ok").cast(pl.Boolean).fill_null(True),
                pl.col("epoch").cast(pl.Float64),
            )
        )
    return pl.concat(frames)


def _near(text: pl.Expr) -> pl.Expr:
    """Whether the window occurs in the text near the offset; an empty one occurs in any text."""
    start = (pl.col("char") - _REACH).clip(0)
    length = (pl.col("char") + _REACH - start).clip(0)
    return text.str.replace_all(r"[\r\n]", " ").str.slice(start, length).str.contains(pl.col("window"), literal=True)


def _first_match(records: pl.DataFrame, questions: pl.DataFrame, side: str, corrections: Corrections) -> pl.DataFrame:
    """The reference's two matchers: whose reading a tick is, and which answer most recently had its first match."""
    caret = ["conversation_id", "char", "window"]
    on_panel = records.filter("on_panel").select(caret).unique()
    tried = questions.filter(pl.col("order").is_not_null()).rename({f"response_{side}": "text"})
    matched = (
        on_panel.filter(pl.col("window") != "")
        .join(tried.select("conversation_id", "question_id", "order", "text"), on="conversation_id")
        .filter(_near(pl.col("text")))
        .group_by(caret)
        .agg(match=pl.col("question_id").sort_by("order").first())
    )
    prompt = on_panel.filter(_near(pl.lit(_PROMPT))).with_columns(prompt=pl.lit(True))
    empty = pl.col("on_panel") & (pl.col("window") == "")
    known = (
        records.join(matched, on=caret, how="left", maintain_order="left")
        .join(prompt, on=caret, how="left", maintain_order="left")
        .with_columns(
            match=pl.when("on_panel").then("match"),
            own=pl.when(pl.col("on_panel") & pl.col("prompt").is_null()).then("match"),
        )
    )
    begun = known.group_by("file", "match").agg(t=pl.col("t").min()).drop_nulls().rename({"match": "shown_id"})
    inherits = ~pl.col("on_panel") | empty if corrections.empty_window else ~pl.col("on_panel")
    given = known.with_columns(
        question_id=pl.when(inherits).then(pl.col("own").forward_fill().over("file")).otherwise("own")
    )
    return given.sort("t").join_asof(begun.sort("t"), on="t", by="file", check_sortedness=False)


def _shown(records: pl.DataFrame, questions: pl.DataFrame, side: str, corrections: Corrections) -> pl.DataFrame:
    """The answer on screen, by the dates of the questions; on its text only where the window occurs in it."""
    slots = questions.filter(pl.col("asked_at").is_not_null()).select(
        "conversation_id", "question_id", epoch=pl.col("asked_at").cast(pl.Float64), text=f"response_{side}"
    )
    placed = records.sort("epoch").join_asof(
        slots.sort("epoch"), on="epoch", by="conversation_id", check_sortedness=False
    )
    on_text = pl.col("on_panel") & (pl.col("window") != "") & _near(pl.col("text")).fill_null(False)
    return placed.with_columns(char=pl.when(on_text).then("char").otherwise(-1), shown_id="question_id")


def _table(ticks: pl.DataFrame, questions: pl.DataFrame, pairwise: bool, corrections: Corrections) -> pl.DataFrame:
    facts = questions.select("question_id", "conversation_id", "length_left", "length_right", "length_query")
    sides = SIDES if pairwise else SIDES[:1]
    if pairwise:
        base = measure_pairwise(ticks, facts, "question_id" if corrections.per_question_phases else "conversation_id")
    else:
        base = measure_pointwise(ticks, facts)
    if pairwise and not corrections.ties:
        base = base.with_columns(pl.col(f"{m}_comparison_which_side_read_further").replace(0, -1) for m in MODALITIES)
    base = blank_unseen(base) if corrections.missing else _zero_unseen(base, sides)
    table = derive_pairwise(base) if pairwise else derive_pointwise(base)
    if not corrections.missing:
        table = table.with_columns(
            *(
                pl.when(pl.col(f"response_length_{side}") > 0)
                .then(f"{m}_max_idx_ratio_{side}")
                .otherwise(0)
                .alias(f"{m}_max_idx_ratio_{side}")
                for m in MODALITIES
                for side in sides
            )
        ).with_columns(pl.exclude("question_id", "conversation_id").fill_null(0))
    mode = pl.lit("pairwise" if pairwise else "pointwise")
    return table.drop("length_left", "length_right", "length_query").with_columns(mode=mode)


def _zero_unseen(base: pl.DataFrame, sides: tuple[str, ...]) -> pl.DataFrame:
    """Fill in the values that the reference writes for what was not observed."""
    lengths = []
    for side in sides:
        never = pl.all_horizontal(pl.col(f"{modality}_total_entries_{side}").is_null() for modality in MODALITIES)
        lengths.append(pl.when(never).then(-1).otherwise(f"response_length_{side}").alias(f"response_length_{side}"))
    offsets = [f"{modality}_max_idx_{side}" for modality in MODALITIES for side in sides]
    return base.with_columns(*lengths, pl.col(offsets).fill_null(-1)).with_columns(
        pl.exclude("question_id", "conversation_id").fill_null(0)
    )
