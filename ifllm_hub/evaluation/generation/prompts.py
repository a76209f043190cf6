"""The prompts that models answer for evaluation: questions of workers who are in no training data."""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import polars as pl

from ifllm_hub.dataset.load import load_config
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.history import History, user_turns
from ifllm_hub.terms import MODES

Questions = Literal["pairwise", "pointwise", "both"]


@dataclass(kw_only=True)
class PromptArguments:
    """Which questions are asked, and with how much of the conversation before them."""

    dataset: str = field(metadata={"help": "Folder laid out like the Hub repo, or Hub dataset id."})
    dataset_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of a Hub dataset; leave out for a folder."}
    )
    questions: Questions = field(default="both", metadata={"help": "Config of the dataset the prompts come from."})
    history: History = field(default="none", metadata={"help": "What prompts show of the earlier turns."})
    prompts: int | None = field(
        default=None, metadata={"help": "How many questions; all those of the test workers if unset."}
    )
    prompt_seed: int = field(
        default=0, metadata={"help": "Which questions; with the same seed, more prompts include the fewer."}
    )


def load_prompts(args: PromptArguments) -> pl.DataFrame:
    """Questions of the test split, in a random order that is the same for any number of them.

    Workers on the authors' exclusion list and questions whose answer was an error message are left out. The sample does
    not depend on the history.

    - history `none`: the query alone, as the paper asks. Many are follow-ups that say little without the turns before.
    - `shared_user_turns`: what the worker wrote so far, as one user message.
    - `chosen_side`: what the LLM had seen, except for the bullet points asked for in some queries, which the dataset
      keeps apart; of a pair, on the side that the worker preferred, or the left one where the pair is not rated.

    Returns:
        `question_id`, `worker_id`, `messages`; one row per prompt.

    Raises:
        IfllmError: the dataset cannot be read, or has fewer such questions.
    """
    configs = MODES if args.questions == "both" else (args.questions,)
    rows = pl.concat(
        load_config(args.dataset, config, args.dataset_revision)
        .filter(pl.col("split") == "test", ~pl.col("ai_error"), ~pl.col("excluded_worker"))
        .select("question_id", "worker_id", messages=conversation(args.history, has_sides=config == "pairwise"))
        for config in configs
    )
    return sample(rows, args.prompts, args.prompt_seed, f"{args.dataset}, test split, {' and '.join(configs)}")


def conversation(history: History, has_sides: bool) -> pl.Expr:
    """The messages to show of a row of `pairwise` (which has sides) or of `pointwise`."""
    if history == "none":
        return pl.concat_list(pl.struct(role=pl.lit("user"), content="query"))
    if history == "shared_user_turns":
        return user_turns("messages_left" if has_sides else "messages")
    if not has_sides:
        return pl.col("messages")
    return pl.when(pl.col("preference") == "right").then("messages_right").otherwise("messages_left")


def sample(rows: pl.DataFrame, n: int | None, seed: int, where: str) -> pl.DataFrame:
    """`n` questions in the order of a hash of seed and `question_id`: a smaller sample is the start of a larger one.

    Questions added to or removed from `rows` do not change the order of the others.

    Args:
        n: None takes all.
        where: what the rows are, for the error message.

    Raises:
        IfllmError: there are fewer than `n`, or none.
    """
    if rows.is_empty() or (n is not None and not 1 <= n <= rows.height):
        raise IfllmError(
            f"{where}: {rows.height} questions can be asked, not {'any' if n is None else n}. Ask for fewer."
        )
    order = [hashlib.sha256(f"{seed}:{question}".encode()).digest() for question in rows["question_id"]]
    return rows.with_columns(order=pl.Series(order, dtype=pl.Binary)).sort("order").drop("order").head(n or rows.height)
