"""Behavior rows -> ticks -> the answer on screen, with a char index that was checked against its text.

A tick is one sample (at about 12.5 Hz); all files of a conversation hold the same ticks in the same order. Three steps:

1. `assemble_ticks` puts the files of each conversation side by side, by row where their page timers agree and by page
   timer elsewhere;
2. `assign_questions` gives each tick the latest question asked at or before it;
3. `locate_on_text` accepts a recorded caret offset only if the recorded window text occurs at that offset of that
   answer, and converts it from UTF-16 units to code points. Everything else is off the text (-1). This mask keeps the
   rating form, where the cursor's position gives the label away, out of every feature.
"""

from functools import reduce

import numpy as np
import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm.accounts import Accounts
from ifllm_hub.sources.ifllm.archive import TaskFolder
from ifllm_hub.sources.ifllm.lines import Parsed, count_columns, parse_files
from ifllm_hub.terms import MODALITIES, SIDES

# A window has up to 10 characters on each side of the caret; 5 more allow for what trimming removed.
_REACH = 15
# Shorter windows occur too often for a search to prove anything.
_MIN_SEARCH = 6
# A character of two UTF-16 units.
_ASTRAL = r"[\x{10000}-\x{10FFFF}]"

_REL_FILES = {
    False: {("gaze", "left"): "rel_gaze.csv", ("mouse", "left"): "rel_mouse.csv"},
    True: {
        ("gaze", "left"): "rel_gaze_one.csv",
        ("gaze", "right"): "rel_gaze_two.csv",
        ("mouse", "left"): "rel_mouse_left.csv",
        ("mouse", "right"): "rel_mouse_right.csv",
    },
}
TICK_SCHEMA = {
    "question_id": pl.Int64,
    "schema_version": pl.String,
    "t": pl.Int32,
    "mouse_x": pl.Float32,
    "mouse_y": pl.Float32,
    "gaze_x": pl.Float32,
    "gaze_y": pl.Float32,
    "mouse_char_left": pl.Int16,
    "mouse_char_right": pl.Int16,
    "gaze_char_left": pl.Int16,
    "gaze_char_right": pl.Int16,
    "face_ok": pl.Boolean,
}
_NEW_YEAR_2026 = 1_767_225_600_000
# The largest values that the columns' types can hold.
_LAST_T, _LAST_CHAR = np.iinfo(np.int32).max, np.iinfo(np.int16).max


def align_tasks(
    tasks: list[TaskFolder], questions: pl.DataFrame, accounts: Accounts, unanswered: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Parse and align some conversations; the result for a conversation does not depend on the others.

    Args:
        tasks: behavior folders.
        questions: as `questions.read_questions` returns them (all, or at least those of these conversations).
        accounts: extended in place.
        unanswered: of the same conversations, as in `questions.Cleaned`; None: there are none.

    Returns:
        One row per tick of a question, by question and time: `question_id`, `schema_version`, `t` (Int32, ms since the
        answer appeared), `mouse_x`, `mouse_y`, `gaze_x`, `gaze_y` (Float32, CSS px in the viewport; mouse
        null before its first move), `mouse_char_left/right`, `gaze_char_left/right` (Int16, code points into the
        answer; -1 off its text, or where that file's line was quarantined), `face_ok` (Boolean, null in v1).

    Raises:
        IfllmError: an answer was read beyond the largest possible char index.
    """
    groups: dict[tuple[bool, int], list[TaskFolder]] = {}
    for task in tasks:
        # An empty file counts as 6.
        columns = max(count_columns(task.path / name) for name in _REL_FILES[task.pairwise].values())
        groups.setdefault((task.pairwise, columns), []).append(task)
    parts = []
    for (pairwise, columns), members in sorted(groups.items()):
        ticks = assemble_ticks(members, pairwise, columns, accounts)
        ticks = assign_questions(ticks, members, questions, accounts, unanswered)
        parts.append(locate_on_text(ticks, questions, columns, accounts))
    return pl.concat([pl.DataFrame(schema=TICK_SCHEMA), *parts])


def assemble_ticks(tasks: list[TaskFolder], pairwise: bool, columns: int, accounts: Accounts) -> pl.DataFrame:
    """Parse the files of conversations with the same layout and put them side by side.

    Returns:
        One row per tick in recorded order: `task` (Int32, position in `tasks`), `page_timer` (ms), `epoch` (Unix ms),
        `mouse_x`, `mouse_y`, `gaze_x`, `gaze_y` (px), `index_<modality>_<side>` (UTF-16 units, null off the box),
        `window_<modality>_<side>` and `face_ok`.
    """
    frames = []
    for modality in MODALITIES:
        name = f"abs_{modality}.csv"
        rows = _account(tasks, name, parse_files([task.path / name for task in tasks], 4), accounts)
        frames.append(rows.rename({"x": f"{modality}_x", "y": f"{modality}_y"}))
    for (modality, side), name in _REL_FILES[pairwise].items():
        rows = _account(tasks, name, parse_files([task.path / name for task in tasks], columns), accounts)
        suffix = f"{modality}_{side}"
        renamed = {"index": f"index_{suffix}", "window": f"window_{suffix}", "face_ok": f"face_ok_{suffix}"}
        frames.append(rows.drop("x", "y").rename(renamed))
    ticks = _side_by_side(frames, len(tasks), accounts)
    flags = [name for name in ticks.columns if name.startswith("face_ok_")]
    return ticks.with_columns(face_ok=pl.coalesce(flags).cast(pl.Boolean)).drop(flags)


def _account(tasks: list[TaskFolder], name: str, parsed: Parsed, accounts: Accounts) -> pl.DataFrame:
    """Drop exact repetitions (pairwise abs_gaze is written twice, batch by batch) and record every line's status."""
    rows = parsed.rows
    file, ok = rows["file"].to_numpy(), rows["ok"].to_numpy()
    repeated = np.zeros_like(ok)
    if name.startswith("abs_"):
        repeated = ok & _repeats(rows.select("file", "epoch", "page_timer", "x", "y"))
    files = pl.Series("file", [f"{task.worker_id}/{task.task_id}/{name}" for task in tasks], dtype=pl.String)
    statuses = {"ticks": ok & ~repeated, "duplicates": repeated, "quarantined": ~ok}
    counts = {status: np.bincount(file[lines], minlength=len(tasks)) for status, lines in statuses.items()}
    accounts.files.append(
        pl.DataFrame([files, pl.Series("lines", parsed.lines, dtype=pl.Int64)]).with_columns(**counts)
    )
    accounts.quarantine.append(parsed.quarantine.with_columns(file=files.gather(parsed.quarantine["file"])))
    rows = rows.filter(~repeated) if repeated.any() else rows
    return rows.drop("ok").rename({"file": "task"})


def _repeats(rows: pl.DataFrame) -> np.ndarray:
    """Whether each row is the same as an earlier one; of rows with nulls, anything.

    Almost all rows are of another file or epoch than the others, or the same as the row before of these.
    """
    values = [column.to_numpy() for column in rows]
    file, epoch, *_ = values
    order = np.lexsort((epoch, file))
    same = [(ordered := column[order])[1:] == ordered[:-1] for column in values]
    near = same[0] & same[1]
    alike = near & same[2] & same[3] & same[4]
    repeats = np.zeros(len(order), dtype=bool)
    repeats[order[1:][alike]] = True
    run = np.cumsum(np.append(True, ~near))[: len(order)]
    unsure = order[np.isin(run, run[1:][near & ~alike])]
    repeats[unsure] = ~rows[unsure].select(pl.struct(pl.all()).is_first_distinct()).to_series().to_numpy()
    return repeats


def _side_by_side(frames: list[pl.DataFrame], n_tasks: int, accounts: Accounts) -> pl.DataFrame:
    """Stack the files of conversations whose page timers agree row by row; join the others by page timer."""
    lengths = np.stack([np.bincount(frame["task"].to_numpy(), minlength=n_tasks) for frame in frames])
    agree = (lengths == lengths[0]).all(axis=0)
    stacked = _stack([frame.filter(agree[frame["task"].to_numpy()]) for frame in frames])
    shifted = stacked.filter("shifted")["task"].unique().to_numpy()
    agree[shifted] = False
    uneven = [frame.filter(~agree[frame["task"].to_numpy()]) for frame in frames]
    joined = _join(uneven)
    accounts.lines_missing += joined.height * len(frames) - sum(frame["page_timer"].count() for frame in uneven)
    stacked = stacked.filter(agree[stacked["task"].to_numpy()]).drop("shifted")
    return pl.concat([stacked, joined.select(stacked.columns)])


def _stack(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Horizontal stack; `shifted` marks rows whose page timers differ (quarantined lines have none and agree)."""
    timers = pl.DataFrame([frame["page_timer"].alias(f"timer_{i}") for i, frame in enumerate(frames)])
    epochs = pl.DataFrame([frame["epoch"].alias(f"epoch_{i}") for i, frame in enumerate(frames)])
    shared = timers.select(
        page_timer=pl.coalesce(pl.all()),
        shifted=pl.max_horizontal(pl.all()) != pl.min_horizontal(pl.all()),
    )
    values = [frame.drop("task", "page_timer", "epoch") for frame in frames]
    epoch = epochs.select(epoch=pl.coalesce(pl.all()))
    return pl.concat([frames[0].select("task"), shared, epoch, *values], how="horizontal")


def _join(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Full join on the n-th occurrence of a page timer (it stops while the tab is hidden); order as recorded."""
    keyed = [
        frame.filter(pl.col("page_timer").is_not_null()).with_columns(
            nth=pl.int_range(pl.len()).over("task", "page_timer")
        )
        for frame in frames
    ]

    def join(left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        both = left.join(right, on=["task", "page_timer", "nth"], how="full", coalesce=True, suffix="_other")
        return both.with_columns(epoch=pl.coalesce("epoch", "epoch_other")).drop("epoch_other")

    return reduce(join, keyed).sort("task", "epoch", "page_timer", "nth")


def assign_questions(
    ticks: pl.DataFrame,
    tasks: list[TaskFolder],
    questions: pl.DataFrame,
    accounts: Accounts,
    unanswered: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Give each tick its conversation's latest question asked at or before it; drop ticks without one.

    A question that got no answer has no ticks, and the ticks after it do not go to the question before.

    Late batches make a few epochs run backwards, so ticks are sorted by epoch, ties in recorded order. A tick more than
    24 days after the answer appeared, as when the clock was changed, is dropped: `t` cannot hold its time.
    """
    conversations = pl.DataFrame(
        {"task": range(len(tasks)), "conversation_id": [f"{task.worker_id}/{task.task_id}" for task in tasks]},
        schema={"task": pl.Int32, "conversation_id": pl.String},
    )
    asked = questions.select("conversation_id", "question_id", "asked_at")
    if unanswered is not None:
        asked = pl.concat([asked, unanswered], how="diagonal")
    slots = (
        asked.join(conversations, on="conversation_id")
        .filter(pl.col("asked_at").is_not_null())
        .select("task", "question_id", "asked_at")
        .sort("asked_at", "question_id", nulls_last=True)
    )
    assigned = ticks.sort("task", "epoch", maintain_order=True).join_asof(
        slots, left_on="epoch", right_on="asked_at", by="task", strategy="backward", check_sortedness=False
    )
    known = pl.col("task").is_in(slots["task"].unique().implode())
    answered, is_asked = pl.col("question_id").is_not_null(), pl.col("asked_at").is_not_null()
    late = answered & (pl.col("epoch") - pl.col("asked_at") > _LAST_T)
    accounts.ticks.append(
        assigned.select(
            ticks=pl.len(),
            on_a_question=(answered & ~late).sum(),
            before_the_first_answer=(~is_asked & known).sum(),
            of_an_unanswered_question=(is_asked & ~answered).sum(),
            conversation_without_questions=(~known).sum(),
            weeks_after_the_last_answer=late.sum(),
        ).cast(pl.Int64)
    )
    return assigned.filter(answered & ~late)


def locate_on_text(ticks: pl.DataFrame, questions: pl.DataFrame, columns: int, accounts: Accounts) -> pl.DataFrame:
    """Replace recorded carets with validated char indices; `align_tasks` lists the columns of the result."""
    version = (
        pl.lit("v1")
        if columns == 6
        else (pl.when(pl.col("asked_at") < _NEW_YEAR_2026).then(pl.lit("v2")).otherwise(pl.lit("v3")))
    )
    ticks = ticks.with_columns(
        schema_version=version,
        t=(pl.col("epoch") - pl.col("asked_at")).cast(pl.Int32),
        before_first_move=(pl.col("mouse_x") == -1) & (pl.col("mouse_y") == -1),
    )
    located = {}
    for modality in MODALITIES:
        for side in SIDES:
            name = f"{modality}_{side}"
            if f"index_{name}" in ticks.columns:
                located[f"{modality}_char_{side}"] = _char_index(ticks, questions, modality, side, accounts)
            else:
                located[f"{modality}_char_{side}"] = pl.repeat(-1, ticks.height, dtype=pl.Int16, eager=True)
    mouse = [
        pl.when(~pl.col("before_first_move")).then(f"mouse_{axis}").cast(pl.Float32).alias(f"mouse_{axis}")
        for axis in "xy"
    ]
    return ticks.with_columns(**located).select(
        "question_id",
        "schema_version",
        "t",
        *mouse,
        pl.col("gaze_x", "gaze_y").round(1).cast(pl.Float32),
        *located,
        "face_ok",
    )


def _char_index(
    ticks: pl.DataFrame, questions: pl.DataFrame, modality: str, side: str, accounts: Accounts
) -> pl.Series:
    """The char index of every tick (Int16, code points; -1 off the text); each distinct caret is decided once."""
    index, window = f"index_{modality}_{side}", f"window_{modality}_{side}"
    answers = questions.select("question_id", text=f"response_{side}")
    carets = ticks.select("question_id", "schema_version", index=index, window=window)
    on_box = carets["index"].is_not_null()
    carets = carets.filter(on_box)
    distinct = (
        carets.group_by("question_id", "index", "window")
        .agg(pl.col("schema_version").first(), ticks=pl.len())
        .join(answers.with_columns(astral=pl.col("text").str.contains(_ASTRAL)), on="question_id", how="left")
    )
    decided = _decide(distinct)
    beyond = decided.filter(pl.col("char") > _LAST_CHAR)
    if beyond.height:
        row = beyond.sort("question_id", "char").row(-1, named=True)
        raise IfllmError(
            f"query_ID {row['question_id']}: its {side} answer was read at character {row['char']:,}, but a char index "
            f"cannot exceed {_LAST_CHAR:,}. Remove its row from query_logs_table.csv."
        )
    accounts.carets.append(
        decided.group_by("schema_version", "status")
        .agg(pl.col("ticks").sum())
        .with_columns(modality=pl.lit(modality), side=pl.lit(side))
        .select("schema_version", "modality", "side", "status", pl.col("ticks").cast(pl.Int64))
    )
    char = np.full(len(on_box), -1, dtype=np.int16)
    char[on_box.to_numpy()] = carets.join(
        decided.select("question_id", "index", "window", pl.col("char").cast(pl.Int16)),
        on=["question_id", "index", "window"],
        how="left",
        nulls_equal=True,
        maintain_order="left",
    )["char"].to_numpy()
    return pl.Series(char)


def _decide(distinct: pl.DataFrame) -> pl.DataFrame:
    """Add `char` (Int64) and `status`: matched, repaired, ambiguous or elsewhere.

    matched: the window occurs around the recorded index. repaired: it occurs once in the answer, but elsewhere (an
    extension split the text node, so the index restarted). ambiguous: it occurs more than once. elsewhere: page text,
    an answer no longer shown, or an empty window, which confirms nothing (docs/format.md, B3).
    """
    # A window cut through a surrogate pair carries half of it as a replacement character.
    distinct = distinct.with_columns(at=_code_points(distinct), shown=pl.col("window").str.strip_chars("\ufffd"))
    at, text, window = pl.col("at"), pl.col("text"), pl.col("shown")
    start = (at - _REACH).clip(0)
    around = text.str.slice(start, at + _REACH - start)
    matched = (window != "") & around.str.contains(window, literal=True)
    search = ~pl.col("matched") & (window.str.len_chars() >= _MIN_SEARCH)
    pieces = pl.when(search).then(text).str.split(window)
    times = pl.col("pieces").list.len().cast(pl.Int64) - 1
    # A full window (20 characters) has the caret in its middle; a shorter one, cut on either side, is taken to as well.
    found = pl.col("pieces").list.first().str.len_chars().cast(pl.Int64) + window.str.len_chars() // 2
    status = (
        pl.when("matched")
        .then(pl.lit("matched"))
        .when(times == 1)
        .then(pl.lit("repaired"))
        .when(times > 1)
        .then(pl.lit("ambiguous"))
        .otherwise(pl.lit("elsewhere"))
    )
    char = (
        pl.when(status == "matched")
        .then(pl.min_horizontal(at, text.str.len_chars().cast(pl.Int64)))
        .when(status == "repaired")
        .then(found)
        .otherwise(-1)
    )
    decided = distinct.with_columns(matched=matched.fill_null(False)).with_columns(pieces=pieces)
    return decided.with_columns(status=status, char=char).drop("pieces", "matched")


def _code_points(distinct: pl.DataFrame) -> pl.Series:
    """Caret offsets in UTF-16 units -> code points; these differ only in texts with characters beyond U+FFFF."""
    at = distinct["index"].cast(pl.Int64).to_numpy().copy()
    for (text,), rows in distinct.with_row_index("row").filter("astral").group_by("text"):
        units_to = np.cumsum([1 + (ord(char) > 0xFFFF) for char in str(text)])
        units = rows["index"].to_numpy()
        at[rows["row"].to_numpy()] = np.searchsorted(units_to, units, side="right") + np.maximum(
            units - units_to[-1], 0
        )
    return pl.Series(at)
