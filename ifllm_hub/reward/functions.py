"""The reward model as a TRL reward function.

A fresh completion has no recorded reading, and the model compares two answers that were read. So there are three
honest uses: (1) labels and flip probabilities for DPO (`labels.py`); (2) a reward for *logged* answers, here: a
completion that is, word for word, one of the two answers a person read gets the probability that it was the preferred
one, and every other completion gets None; (3) a text model distilled from the labels, for live generation.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ifllm_hub.reward.forest import FlatForest
from ifllm_hub.reward.hub import fetch_reward
from ifllm_hub.reward.persistence import load_forest

_ANSWERS = ("response_left", "response_right")


class BehaviourReward:
    """`f(prompts, completions, **columns) -> list[float | None]` for TRL's GRPO and RLOO trainers.

    The dataset must carry the columns `response_left`, `response_right` and the model's features (configs `pairwise`
    and `features` of the dataset, joined on `question_id`); TRL hands them over by name. Picklable: the model is read
    again where it is used.

    Args:
        model: a model folder or Hub model id. None: `IFLLM_REWARD_MODEL` from the environment, else the model in the
            package.
        revision: branch, tag or commit of a Hub model.
    """

    def __init__(self, model: str | Path | None = None, revision: str | None = None):
        self.__name__ = "behaviour_reward"
        self._source = model
        self._revision = revision
        self._loaded: tuple[FlatForest, list[str]] | None = None

    def __call__(
        self,
        prompts: list[Any],
        completions: list[Any],
        completion_ids: list[Any] | None = None,
        trainer_state: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """Score logged answers.

        Args:
            completions: texts, or conversations of which the last message is the answer.
            columns: the other columns of the batch, each a list as long as `completions`.

        Returns:
            P(this answer was preferred over the other one) in [0, 1] for a logged answer, None for any other text, and
            None for all where a column is missing.
        """
        forest, features = self._forest()
        if any(name not in columns for name in (*_ANSWERS, *features)):
            return [None] * len(completions)
        left = np.array([_is(text, logged) for text, logged in zip(completions, columns[_ANSWERS[0]], strict=True)])
        right = np.array([_is(text, logged) for text, logged in zip(completions, columns[_ANSWERS[1]], strict=True)])
        rewards: list[float | None] = [None] * len(completions)
        rows = np.flatnonzero(left != right)  # a text that is both answers, or neither, was not preferred to anything
        if len(rows):
            X = np.array([[columns[name][row] for name in features] for row in rows], dtype=np.float64)
            probability = forest.predict(X)
            for row, p in zip(rows, probability, strict=True):
                rewards[row] = float(p if left[row] else 1 - p)
        return rewards

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def _forest(self) -> tuple[FlatForest, list[str]]:
        if self._loaded is None:
            source = self._source or os.environ.get("IFLLM_REWARD_MODEL") or default_model()
            forest, config = load_forest(fetch_reward(source, self._revision))
            self._loaded = forest, [feature["name"] for feature in config["features"]]
        return self._loaded


def default_model() -> Path:
    """The model that ships with the package, trained on the real release."""
    return Path(__file__).parent / "default"


def _is(completion: Any, logged: str | None) -> bool:
    text = completion if isinstance(completion, str) or not completion else completion[-1].get("content")
    # A call of a tool has no text; a multimodal message has a list of parts.
    return isinstance(text, str) and logged is not None and text.strip() == logged.strip()


# A dotted path for `trl grpo --reward_funcs ifllm_hub.reward.functions.behaviour_reward`.
behaviour_reward = BehaviourReward()
