"""The chat that an LLM had seen when it answered: its own side of the conversation so far."""

import polars as pl

from ifllm_hub.terms import SIDES

_MESSAGES = pl.List(pl.Struct({"role": pl.String, "content": pl.String}))


def with_messages(questions: pl.DataFrame, mode: str) -> pl.DataFrame:
    """Rows of `pairwise` or `pointwise`, with the chat that each LLM had seen: the history of its own side.

    Args:
        questions: of that mode, with both sides' columns and the turns of a conversation in order; conversations may be
            interleaved, as with two tabs.
    """
    sides = SIDES if mode == "pairwise" else ("left",)
    messages: dict[str, list[list[dict[str, str]]]] = {side: [] for side in sides}
    so_far: dict[tuple[str, str], list[dict[str, str]]] = {}
    said = questions.select("conversation_id", "query", *(f"response_{side}" for side in sides))
    for conversation, query, *responses in said.iter_rows():
        for side, response in zip(sides, responses, strict=True):
            asked = [*so_far.get((conversation, side), []), {"role": "user", "content": query}]
            messages[side].append(asked)
            so_far[conversation, side] = [*asked, {"role": "assistant", "content": response}]
    columns = {f"messages_{side}": pl.Series(rows, dtype=_MESSAGES) for side, rows in messages.items()}
    dated = questions.with_columns(asked_at=pl.col("asked_at").cast(pl.Datetime("ms", "UTC")), **columns)
    if mode == "pairwise":
        return dated
    return dated.rename({f"{name}_left": name for name in ("messages", "response", "model", "rating")})
