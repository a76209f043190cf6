"""Text reward models of any kind, as one function: conversations and answers in, scores out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ifllm_hub.align.stages.text_reward import TextReward, load_classifier, scores
from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.terms import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[Message]


@dataclass(frozen=True)
class TextScorer:
    """A text reward model.

    Attributes:
        score: (conversations, answers) -> one logit each; P(one answer better than another) is expit(difference).
        ours: whether this package made it; then it was trained on prompts of the last query alone.
    """

    score: Callable[[list[Messages], list[str]], list[float]]
    ours: bool


def load_scorer(model: str, revision: str | None = None) -> TextScorer:
    """A folder or Hub id: what `training/reward_student.py` made, or any sequence classifier with one output.

    A classifier reads the conversation in its tokenizer's chat template, or, without one, the user's texts and the
    answer as a pair of sentences. What is longer than the model can read is cut at its end.

    Raises:
        IfllmError: it cannot be loaded, or does not give one score to one answer.
    """
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        raise IfllmError(
            f"{model}: not a text reward model ({first_line(error)}). Name a folder or a Hub id of a sequence "
            f"classifier."
        ) from error
    if hasattr(config, "reward_form"):
        reward = TextReward(model, revision)
        return TextScorer(lambda conversations, answers: reward(conversations, list(answers)), ours=True)
    if config.num_labels != 1:
        raise IfllmError(f"{model}: has {config.num_labels} outputs; a reward model gives an answer one score.")
    classifier, tokenizer = load_classifier(model, revision)
    limit = getattr(classifier.config, "max_position_embeddings", None) or 4096
    tokenizer.model_max_length = min(tokenizer.model_max_length, limit)

    def score(conversations: list[Messages], answers: list[str]) -> list[float]:
        encoded = [_encode(tokenizer, *pair) for pair in zip(conversations, answers, strict=True)]
        return scores(encoded, classifier, tokenizer)

    return TextScorer(score, ours=False)


def _encode(tokenizer: "PreTrainedTokenizerBase", conversation: Messages, answer: str) -> dict[str, list[int]]:
    if tokenizer.chat_template is not None:
        messages = [*conversation, {"role": "assistant", "content": answer}]
        text: Any = tokenizer.apply_chat_template(messages, tokenize=False)
        return dict(tokenizer(text, add_special_tokens=False, truncation=True))
    asked = "\n\n".join(message["content"] for message in conversation if message["role"] == "user")
    return dict(tokenizer(asked, answer, truncation=True))
