"""How much a prompt shows of what the LLMs had seen."""

from pathlib import Path
from typing import Literal

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError

History = Literal["none", "shared_user_turns", "chosen_side"]


def with_history(rows: pl.DataFrame, dataset: str | Path, revision: str | None, history: History) -> pl.DataFrame:
    """Preference rows with prompts that show the earlier turns, from the config `pairwise`.

    From the second turn on, the two answers were written after different conversations, since each LLM saw its own
    earlier answers. A pair has one prompt, so there is no prompt under which both were written:

    - `none`: the worker's query alone; the rows are that already, so they do not come here.
    - `shared_user_turns`: what the worker wrote so far, which both sides share, as one user message with an empty line
      between the turns, since most chat templates refuse two user messages in a row. The answers are left out.
    - `chosen_side`: the whole conversation on the side of the chosen answer. The rejected answer's LLM had
      written other earlier answers; where the LLMs' styles differ, that alone tells the two answers apart.

    Args:
        rows: with `question_id`, `prompt` and `chosen`.

    Raises:
        IfllmError: the config `pairwise` cannot be read, or lacks a question.
    """
    columns = ["question_id", "response_left", "messages_left", "messages_right"]
    pairwise = load_config(dataset, "pairwise", revision).select(columns)
    joined = rows.join(pairwise, on="question_id", how="left", maintain_order="left")
    unknown = joined.filter(pl.col("messages_left").is_null())["question_id"]
    if len(unknown):
        raise IfllmError(
            f"{dataset}: {len(unknown)} questions of the preferences are not in the config pairwise (the first: "
            f"{unknown[0]}), so their history is unknown. Run `ifllm label` on the dataset again."
        )
    prompt = user_turns("messages_left") if history == "shared_user_turns" else _chosen_side()
    return joined.with_columns(prompt=prompt).select(rows.columns)


def with_instruction(rows: pl.DataFrame) -> pl.DataFrame:
    """Preference rows with `instruction` at the end of the prompt's last message, as it was sent to the LLMs.

    Args:
        rows: with `prompt` and `instruction`. The release does not say whether the LLMs saw the instructions of earlier
            turns, so earlier messages stay as typed.
    """
    earlier = pl.col("prompt").list.head(pl.col("prompt").list.len() - 1)
    last = pl.col("prompt").list.last().struct
    sent = last.field("content") + pl.col("instruction").fill_null("")
    return rows.with_columns(prompt=earlier.list.concat(pl.concat_list(pl.struct(last.field("role"), content=sent))))


def prompts_show(history: History, instruction: bool) -> str:
    """A sentence on what prompts show."""
    appended = ", and of the query what the site appended to it" if instruction else ""
    return f"Of the earlier turns, prompts show: {history}{appended}."


def user_turns(messages: str) -> pl.Expr:
    """What the worker wrote in the column `messages`, as one user message with an empty line between the turns."""
    message = pl.element().struct
    turns = pl.col(messages).list.eval(message.field("content").filter(message.field("role") == "user"))
    return pl.concat_list(pl.struct(role=pl.lit("user"), content=turns.list.join("\n\n")))


def _chosen_side() -> pl.Expr:
    is_left = pl.col("chosen").list.first().struct.field("content") == pl.col("response_left")
    return pl.when(is_left).then("messages_left").otherwise("messages_right")


def message(role: str, content: pl.Expr) -> pl.Expr:
    """A conversation of one message, as TRL reads it."""
    return pl.concat_list(pl.struct(role=pl.lit(role), content=content))
