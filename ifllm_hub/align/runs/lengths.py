"""Checks before a trainer is built: can the policy read `max_length` tokens, and do prompts leave room for answers?"""

from typing import TYPE_CHECKING, Any

from ifllm_hub.align.implicit_reward import answer_tokens
from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from datasets import DatasetDict
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def check_lengths(
    config: Any, policy: "PreTrainedModel", name: str, tokenizer: "PreTrainedTokenizerBase", data: "DatasetDict"
) -> None:
    """See `check_max_length` and `check_prompts_fit`."""
    check_max_length(config, policy, name)
    check_prompts_fit(config, tokenizer, data)


def check_max_length(config: Any, policy: "PreTrainedModel", name: str) -> None:
    """Refuse a `max_length` beyond what the policy can read; if unset, set it to that.

    Raises:
        IfllmError: `max_length` is too large.
    """
    room = positions(policy)
    if room is None:
        return
    if config.max_length is None:
        config.max_length = room
    if config.max_length > room:
        raise IfllmError(
            f"max_length is {config.max_length}, but the policy {name!r} can read {room} tokens. Lower max_length to "
            f"{room} or less."
        )


def check_prompts_fit(config: Any, tokenizer: "PreTrainedTokenizerBase", data: "DatasetDict") -> None:
    """Refuse data of which nothing would be left: TRL drops a row whose prompt fills `max_length`.

    Args:
        data: splits with conversational `prompt` and `completion`, or `prompt` and `chosen`.

    Raises:
        IfllmError: no row of a split has room for a token of its answer.
    """
    if config.max_length is None or getattr(config, "truncation_mode", "keep_start") != "keep_start":
        return
    for split, rows in data.items():
        answer = "completion" if "completion" in rows.column_names else "chosen"
        starts = (answer_tokens(tokenizer, row["prompt"], row[answer], config.max_length)[1] for row in rows)
        if all(start == config.max_length for start in starts):
            raise IfllmError(
                f"Every prompt of the {split} split has max_length = {config.max_length} tokens or more, so nothing is "
                "left to train or to evaluate on. Raise max_length."
            )


def positions(policy: "PreTrainedModel") -> int | None:
    """How many tokens the policy can read, prompt and answer together; None if there is no limit."""
    return getattr(policy.config.get_text_config(), "max_position_embeddings", None)


def prompts_with_room(data: "DatasetDict", policy: Any, tokenizer: Any, answer: int) -> "DatasetDict":
    """The prompts after which the policy can still read `answer` tokens.

    Raises:
        IfllmError: a split has none.
    """
    room = positions(policy)
    if room is None:
        return data

    def fits(row: dict[str, Any]) -> bool:
        prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)
        return len(prompt["input_ids"]) + answer <= room

    kept = data.filter(fits)
    for split, rows in kept.items():
        if len(rows) == 0:
            raise IfllmError(
                f"Every prompt of the {split} split and an answer of max_completion_length = {answer} tokens exceed "
                f"the {room} that this policy can read. Lower max_completion_length."
            )
    return kept
