"""What sources share that say what people thought of answers, but not how they read them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from ifllm_hub.sources.frames import as_questions, as_trajectories

MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))

_KNOWN: dict[str, Any] = {
    **dict.fromkeys(("question_id", "task_id", "asked_at"), pl.Int64),
    **dict.fromkeys(("worker_id", "query", "response_left", "response_right", "model_left", "model_right"), pl.String),
    **dict.fromkeys(("turn", "rating_left", "rating_right"), pl.Int64),
    "preference": pl.String,
    "context": MESSAGES,
}


def question_rows(rows: Sequence[Mapping[str, Any]], extra: Mapping[str, Any] | None = None) -> pl.DataFrame:
    """See `as_questions`.

    Args:
        rows: by column, with `asked_at` in Unix seconds, and `context`; what is left out is null.
        extra: columns of this source only, with their types.
    """
    schema = _KNOWN | dict(extra or {})
    frame = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
    return as_questions(frame.with_columns(asked_at=pl.from_epoch("asked_at", "s")))


def empty_trajectories(questions: pl.DataFrame) -> pl.DataFrame:
    """Rows of `Recorded.trajectories` where no reading was recorded."""
    return as_trajectories(questions, pl.DataFrame(schema={"question_id": pl.Int64, "t": pl.Int32}))


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
