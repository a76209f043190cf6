"""The reward model as a TRL reward function: `behavior_reward`, or `get_behavior_reward` for another model or scale.

The model compares two answers that a person read, and nobody has read a fresh completion. So there are three honest
uses: (1) labels and flip probabilities for DPO (`preferences/labels.py`); (2) a reward for *logged* answers, here: a
completion that is, word for word, one of the two answers a person read gets the probability that it was the preferred
one (as a logit), and every other completion gets None; (3) a text model distilled from the labels, for live generation.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.model.flat_forest import too_large
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward

Scale = Literal["probability", "logit"]

_ANSWERS = ("response_left", "response_right")
# Prefixes of the features that come from reading; the others (lengths) are known for any text.
_BEHAVIOR = ("mouse_", "gaze_")


class BehaviorReward:
    """`f(prompts, completions, **columns) -> list[float | None]` for TRL's GRPO and RLOO trainers.

    The dataset must carry the columns `response_left`, `response_right` and the model's features (configs `pairwise`
    and `features` of the dataset, joined on `question_id`); TRL passes them by name. Picklable: the model is
    loaded again where it is used.

    Args:
        model: a model folder or Hub model id. None: `IFLLM_REWARD_MODEL` from the environment, else the model that
            comes with the package.
        revision: branch, tag or commit of a Hub model.
        scale: of the rewards, with p = P(this answer was preferred over the other one). "logit" is log(p / (1 - p)),
            the Bradley-Terry difference of the two answers' rewards: 0 if both are equally likely, negative for the
            less liked one. "probability" is p, in [0, 1].

    How the trainer treats a completion without a reward (None) depends on the scale:

    | scale | the only function | beside others | beside others, `normalize_then_sum` (GRPO) |
    |---|---|---|---|
    | `logit` | nothing: advantage 0 | 0: neither liked nor disliked | the mean of its group's logged answers |
    | `probability` | nothing: advantage 0 | 0: worse than any logged answer | the mean of its group's logged answers |

    So beside another function, `probability` teaches the policy to repeat logged answers, even disliked ones: use it
    where there is no other reward, or for a mean that people read. With `normalize_then_sum`, a logged answer that is
    alone in its group counts as 0, like a fresh one. Among several rewards, `reward_weights` sets the shares.

    Raises:
        IfllmError: there is no such scale.

    Examples:
        >>> from ifllm_hub.dataset.load import load_config
        >>> from ifllm_hub.reward.functions import BehaviorReward
        >>> features = load_config("ifllm", "features").drop("worker_id", "mode", "split")
        >>> rows = load_config("ifllm", "pairwise").join(features, on="question_id")
        >>> row = rows.filter("has_mouse").head(1).to_dict(as_series=False)
        >>> reward = BehaviorReward()
        >>> (left,), (right,) = (reward(["?"], row[f"response_{side}"], **row) for side in ("left", "right"))
        >>> round(left + right, 9) == 0
        True
        >>> reward(["?"], ["An answer that nobody has read."], **row)
        [None]
    """

    def __init__(self, model: str | Path | None = None, revision: str | None = None, scale: Scale = "logit") -> None:
        if scale not in get_args(Scale):
            raise IfllmError(f"There is no scale {scale!r}. Use one of: {', '.join(get_args(Scale))}.")
        self.__name__ = "behavior_reward"
        self._source = model
        self._revision = revision
        self._scale = scale
        self._loaded: ImplicitFeedbackReward | None = None

    def __call__(
        self,
        prompts: list[Any],
        completions: list[Any],
        completion_ids: list[Any] | None = None,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score logged answers.

        Args:
            completions: texts, or conversations whose last message is the answer if its role is `assistant`.
            log_metric: TRL's; it receives `behavior_reward/coverage`, the share of completions that have a reward, and
                `behavior_reward/mean`, the mean of those rewards if there are any.
            columns: the other columns of the batch, each a list as long as `completions`.

        Returns:
            The reward of a logged answer on the chosen scale; None for any other text, for an answer whose reading was
            not recorded or has an infinite feature, and for all completions if a column is missing.

        Raises:
            IfllmError: the model cannot be loaded, see `ImplicitFeedbackReward.from_pretrained`; a column's length
                differs from that of `completions`, an answer is not a text, or a feature is not a number; a completion
                is neither a text nor a list of messages.
        """
        rewards = self._rewards(completions, columns)
        if log_metric is not None and completions:
            known = [reward for reward in rewards if reward is not None]
            log_metric("behavior_reward/coverage", len(known) / len(rewards))
            if known:
                log_metric("behavior_reward/mean", float(np.mean(known)))
        return rewards

    def _rewards(self, completions: list[Any], columns: dict[str, Any]) -> list[float | None]:
        model = self._model()
        rewards: list[float | None] = [None] * len(completions)
        if any(name not in columns for name in (*_ANSWERS, *model.features)):
            return rewards
        for name in (*_ANSWERS, *model.features):
            if len(columns[name]) != len(completions):
                raise IfllmError(
                    f"The column {name} has {len(columns[name])} values for {len(completions)} completions. "
                    "Give each completion its row."
                )
        answers = [_answer(completion) for completion in completions]
        left, right = (_matches(answers, name, columns[name]) for name in _ANSWERS)
        X = model.columns(columns)
        read = ~np.isnan(X[:, [name.startswith(_BEHAVIOR) for name in model.features]]).all(axis=1)
        scorable = read & ~too_large(X).any(axis=1)
        rows = np.flatnonzero((left != right) & scorable)  # a text that equals both answers was not preferred to either
        if self._scale == "logit":
            values = np.where(left[rows], 1, -1) * model.logit(X[rows])
        else:
            p = model.predict(X[rows])
            values = np.where(left[rows], p, 1 - p)
        for row, value in zip(rows, values, strict=True):
            rewards[row] = float(value)
        return rewards

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def _model(self) -> ImplicitFeedbackReward:
        if self._loaded is None:
            source = self._source or os.environ.get("IFLLM_REWARD_MODEL") or default_model()
            self._loaded = ImplicitFeedbackReward.from_pretrained(source, self._revision)
        return self._loaded


def get_behavior_reward(
    repo_id: str | Path | None = None, revision: str | None = None, scale: Scale = "logit"
) -> BehaviorReward:
    """A reward function for TRL's GRPO and RLOO trainers; see `BehaviorReward` for arguments and errors.

    Examples:
        >>> from ifllm_hub.reward.functions import default_model, get_behavior_reward
        >>> get_behavior_reward(default_model(), scale="probability").__name__
        'behavior_reward'
    """
    return BehaviorReward(repo_id, revision, scale)


def engagement_reward(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float | None]:
    """For TRL's trainers, where each question has a single logged answer: how long it held its reader.

    On the study's data it does not tell, beyond chance, how an answer was rated (docs/results/pointwise_reward.md).

    Args:
        prompts: not used.
        completions: see `BehaviorReward`.
        columns: those of the batch, each a list as long as `completions`: `response` of the config `pointwise`, and
            `engagement` of `reward.engagement.engagement`.

    Returns:
        `engagement` - 0.5, so 0 where the reader stayed as long as usual, of a completion that is the logged answer;
        None of any other, and where the engagement is not known.

    Raises:
        IfllmError: a completion is neither a text nor a list of messages, or an answer is not a text.

    Examples:
        >>> from ifllm_hub.reward.functions import engagement_reward
        >>> engagement_reward(["?"] * 2, ["As read.", "Another."], response=["As read."] * 2, engagement=[0.75] * 2)
        [0.25, None]
    """
    answers = [_answer(completion) for completion in completions]
    if not {"response", "engagement"} <= columns.keys():
        return [None] * len(answers)
    read = zip(_matches(answers, "response", columns["response"]), columns["engagement"], strict=True)
    return [float(rank) - 0.5 if same and rank is not None else None for same, rank in read]


def default_model() -> Path:
    """The folder of the model that comes with the package, trained on the real release."""
    return Path(__file__).parent / "default"


def _answer(completion: Any) -> str | None:
    """The text of a completion; None if it is not the assistant's or not text."""
    if isinstance(completion, str):
        return completion
    if not isinstance(completion, list) or not all(isinstance(message, Mapping) for message in completion):
        raise IfllmError(
            "A completion must be a text, or a list of messages with `role` and `content`; "
            f"one of them is neither ({completion!a:.60})."
        )
    message = completion[-1] if completion else {}
    content = message.get("content")
    # A tool call has no text; a multimodal message has a list of parts.
    return content if message.get("role") == "assistant" and isinstance(content, str) else None


def _matches(answers: list[str | None], name: str, logged: list[Any]) -> np.ndarray:
    """(n,) bool: which answers equal the logged ones of this column, apart from surrounding white space."""
    for text in logged:
        if text is not None and not isinstance(text, str):
            raise IfllmError(f"The column {name} holds {text!a:.60}, which is not a text. Give texts, or None.")
    stripped = [None if text is None else text.strip() for text in logged]
    return np.array(
        [one is not None and one.strip() == other for one, other in zip(answers, stripped, strict=True)], dtype=bool
    )


# A dotted path for `trl grpo --reward_funcs ifllm_hub.reward.functions.behavior_reward`.
behavior_reward = BehaviorReward()
