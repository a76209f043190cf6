"""What sources share that say what people thought of answers, but not how they read them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

_QUESTIONS: dict[str, Any] = {
    "question_id": pl.Int64,
    "worker_id": pl.String,
    "conversation_id": pl.String,
    "task_id": pl.Int64,
    "turn": pl.Int32,
    "mode": pl.String,
    "query": pl.String,
    "response_left": pl.String,
    "response_right": pl.String,
    "model_left": pl.String,
    "model_right": pl.String,
    "rating_left": pl.Int8,
    "rating_right": pl.Int8,
    "preference": pl.String,
    "better_than_previous": pl.Boolean,
    "bullet_points": pl.Boolean,
    "asked_at": pl.Int64,
    "ai_error": pl.Boolean,
    "excluded_worker": pl.Boolean,
    "context": MESSAGES,
}
_NEVER = {"bullet_points": False, "ai_error": False, "excluded_worker": False}
_PLACES = {f"{modality}_{axis}": pl.Float32 for modality in ("mouse", "gaze") for axis in "xy"}
_CHARS = {f"{modality}_char_{side}": pl.Int16 for modality in ("mouse", "gaze") for side in ("left", "right")}
_LISTS = {"t": pl.Int32, **_PLACES, **_CHARS, "face_ok": pl.Boolean}


def question_rows(rows: Sequence[Mapping[str, Any]], extra: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """Rows of `Recorded.questions`, without folds.

    Args:
        rows: by column, with `asked_at` in Unix seconds; what is left out is null, or False if it is a flag.
        extra: columns of this source only, with their types.

    Returns:
        The columns of the contract, `context` (the chat up to the query, as the LLM saw it: rated answers are few, so
        a conversation's other rows do not tell it), and the extra ones.
    """
    questions = pl.DataFrame([{**_NEVER, **row} for row in rows], schema=_QUESTIONS | dict(extra or {}))
    return questions.with_columns(asked_at=pl.from_epoch("asked_at", "s"))


def empty_trajectories(questions: pl.DataFrame) -> pl.DataFrame:
    """Rows of `Recorded.trajectories` where no reading was recorded."""
    return questions.select(
        "question_id",
        "worker_id",
        "mode",
        pl.lit(None, pl.String).alias("schema_version"),
        *(
            pl.col(column).str.len_chars().cast(pl.Int32).alias(f"length_{name}")
            for name, column in (("left", "response_left"), ("right", "response_right"), ("query", "query"))
        ),
        *(pl.lit(None, pl.Int32).alias(f"viewport_{name}") for name in ("width", "height")),
        *(pl.lit([], pl.List(type_)).alias(name) for name, type_ in _LISTS.items()),
    )


def id_number(*parts: str) -> int:
    """An id from 1 to 2^63 - 1, from the source's own ids."""
    return int.from_bytes(_digest(*parts)[:8], "big") >> 1 or 1


def pseudonym(source: str, person: str) -> str:
    """The `worker_id` of a product's user. Whoever has the user's id can confirm it: not anonymous."""
    return f"{source}_{hashlib.sha256(f'{source} {person}'.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def valid_text(text: str) -> str:
    """A text that can be written as UTF-8: half an emoji, which JavaScript may cut off, becomes "?"."""
    return text.encode("utf-8", "replace").decode()


def _digest(*parts: str) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()
