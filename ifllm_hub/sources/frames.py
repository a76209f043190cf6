"""The frames that a source hands over, from what it has: what is missing is filled in, what is wrong is refused."""

from typing import Any

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import MODALITIES, SIDES

_REQUIRED = {"question_id": pl.Int64, "worker_id": pl.String, "task_id": pl.Int64, "query": pl.String}
# Of questions, with the value where a source does not know them.
_OPTIONAL: dict[str, tuple[Any, Any]] = {
    "turn": (pl.Int32, 1),
    **{f"response_{side}": (pl.String, None) for side in SIDES},
    **{f"model_{side}": (pl.String, "unknown") for side in SIDES},
    **{f"rating_{side}": (pl.Int8, None) for side in SIDES},
    "preference": (pl.String, None),
    "better_than_previous": (pl.Boolean, None),
    "asked_at": (pl.Datetime("ms", "UTC"), None),
    **dict.fromkeys(("bullet_points", "ai_error", "excluded_worker"), (pl.Boolean, False)),
}
_TICKS: dict[str, tuple[Any, Any]] = {
    "t": (pl.Int32, None),
    **{f"{modality}_{axis}": (pl.Float32, None) for modality in MODALITIES for axis in "xy"},
    **{f"{modality}_char_{side}": (pl.Int16, -1) for modality in MODALITIES for side in SIDES},
    "face_ok": (pl.Boolean, None),
}

# Of the texts of a question, code points: columns of the config `trajectories`.
LENGTHS = {
    f"length_{name}": pl.col(column).str.len_chars().cast(pl.Int32)
    for name, column in (("left", "response_left"), ("right", "response_right"), ("query", "query"))
}


def as_questions(rows: pl.DataFrame) -> pl.DataFrame:
    """Questions as `Recorded` has them, without folds.

    Args:
        rows: at least `question_id` (from 1), `worker_id`, `task_id` (of the conversation, from 1), `query` and
            `response_left`; also `response_right` where there are two answers, and any of `turn`, `model_left/right`,
            `rating_left/right` (1-5), `preference` ("left", "right"), `better_than_previous` and `asked_at` (UTC).
            Further columns stay as they are.

    Raises:
        IfllmError: a column is missing or of another type, or a question has no id, reader, query or left answer.

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.sources.frames import as_questions
        >>> row = {"question_id": 1, "worker_id": "ada", "task_id": 1, "query": "Why?", "response_left": "Because."}
        >>> as_questions(pl.DataFrame([row])).select("mode", "conversation_id", "turn", "rating_left").rows()
        [('pointwise', 'ada/1', 1, None)]
    """
    needed = (*_REQUIRED, "response_left")
    for name in needed:
        if name not in rows.columns:
            raise IfllmError(f"The questions of a source lack the column {name}. Give {', '.join(needed)}.")
    filled = _filled(rows, {name: (type_, None) for name, type_ in _REQUIRED.items()} | _OPTIONAL, "questions")
    for name in needed:
        if filled[name].null_count():
            raise IfllmError(f"A question of a source has no {name}. Leave it out.")
    for name in ("question_id", "task_id"):
        low = filled.filter(pl.col(name) < 1)[name]
        if len(low):
            raise IfllmError(f"The {name} {low[0]} of a source is below 1.")
    two = pl.col("response_right").is_not_null()
    return filled.with_columns(
        mode=pl.when(two).then(pl.lit("pairwise")).otherwise(pl.lit("pointwise")),
        conversation_id=pl.format("{}/{}", "worker_id", "task_id"),
        model_right=pl.when(two).then("model_right"),
        preference=pl.when(two).then("preference"),
    )


def as_trajectories(questions: pl.DataFrame, ticks: pl.DataFrame, schema_version: str | None = None) -> pl.DataFrame:
    """Trajectories as `Recorded` has them, one row a question.

    Args:
        questions: from `as_questions`; those with `viewport_width` and `viewport_height` keep them (CSS px).
        ticks: one row each, in order of time within a question: `question_id`, `t` (ms since the first answer
            appeared), and any of `mouse_x/y`, `gaze_x/y` (CSS px), `mouse_char_left/right`, `gaze_char_left/right`
            (code points into that answer; -1 off its text) and `face_ok`.
        schema_version: how ticks were sampled; see the dataset's card.

    Raises:
        IfllmError: a column is missing or of another type, time goes back or begins before 0 within a question,
            or a char index lies outside its answer.

    Examples:
        >>> import polars as pl
        >>> from ifllm_hub.sources.frames import as_questions, as_trajectories
        >>> row = {"question_id": 1, "worker_id": "ada", "task_id": 1, "query": "Why?", "response_left": "Because."}
        >>> ticks = pl.DataFrame({"question_id": [1, 1], "t": [0, 80], "gaze_char_left": [3, -1]})
        >>> read = as_trajectories(as_questions(pl.DataFrame([row])), ticks)
        >>> read["length_left"][0], read["t"][0].to_list(), read["gaze_char_left"][0].to_list()
        (8, [0, 80], [3, -1])
    """
    for name in ("question_id", "t"):
        if name not in ticks.columns:
            raise IfllmError(f"The ticks of a source lack the column {name}.")
    filled = _filled(ticks, _TICKS, "ticks").select("question_id", *_TICKS)
    back = filled.filter((pl.col("t") < 0) | (pl.col("t").diff().over("question_id") < 0))["question_id"]
    if len(back):
        raise IfllmError(
            f"The ticks of question {back[0]} begin before 0 or are not in the order of time. Sort them by t."
        )
    lists = filled.group_by("question_id", maintain_order=True).agg(list(_TICKS))
    sizes = {
        name: (pl.col(name) if name in questions.columns else pl.lit(None)).cast(pl.Int32)
        for name in ("viewport_width", "viewport_height")
    }
    rows = questions.select("question_id", "worker_id", "mode", **LENGTHS, **sizes)
    rows = rows.join(lists, on="question_id", how="left", maintain_order="left")
    for modality in MODALITIES:
        for side in SIDES:
            chars, end = pl.col(f"{modality}_char_{side}"), pl.col(f"length_{side}").fill_null(-1)
            beyond = rows.filter((chars.list.max() > end) | (chars.list.min() < -1))["question_id"]
            if len(beyond):
                raise IfllmError(
                    f"A tick of question {beyond[0]} lies outside the {side} answer ({modality}), or there is none."
                )
    recorded = pl.col("t").is_not_null()
    return rows.with_columns(
        pl.col(list(_TICKS)).fill_null([]),
        schema_version=pl.when(recorded).then(pl.lit(schema_version, pl.String)),
    )


def _filled(rows: pl.DataFrame, declared: dict[str, tuple[Any, Any]], what: str) -> pl.DataFrame:
    missing = {name: pl.lit(value, type_) for name, (type_, value) in declared.items() if name not in rows.columns}
    rows = rows.with_columns(**missing)
    for name, (type_, value) in declared.items():
        try:
            column = rows[name].cast(type_)
        except pl.exceptions.PolarsError as error:
            raise IfllmError(f"The column {name} of a source's {what} is no {type_}: {str(error)[:100]}") from error
        rows = rows.with_columns(column if value is None else column.fill_null(value))
    return rows
