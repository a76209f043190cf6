"""The shipped reward model, live: how likely is the reader to prefer the left answer, given how both were read?"""

from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import select

from ifllm_hub.collect.export.reading_time import DWELL, LEAST_DWELL_MS, dwell_on_text
from ifllm_hub.collect.live.feature_cache import FeatureCache
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.refusals import Unknown
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import RESPONSES
from ifllm_hub.collect.tokens import ResponseToken
from ifllm_hub.features.centering import HABITUAL, SUFFIX, center_by_worker
from ifllm_hub.features.extract import feature_rows
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward

# How likely the likelier answer must be: below this it was preferred in 55 % of the study's pairs, above it in 67 %
# (docs/results/live_score.md, where the intervals are).
LEAST_SURE = 0.56


class Scorer:
    """Scores questions of a store, for one thread.

    Args:
        model: a model folder or Hub id; None: the one in the package.

    Raises:
        IfllmError: the model cannot be loaded.
    """

    def __init__(self, store: Store, pseudonyms: Pseudonyms, model: str | Path | None = None):
        self._store, self._pseudonyms = store, pseudonyms
        self._model = ImplicitFeedbackReward.from_pretrained(model or default_model())
        own = [name for name in self._model.features if not name.endswith(SUFFIX)]
        needed = list(dict.fromkeys(["question_id", "worker_id", "mode", *HABITUAL, *DWELL, *own]))
        self._known = FeatureCache(pseudonyms, lambda readings: feature_rows(readings.trajectories).select(needed))

    def forget(self, person: str) -> None:
        """Drop everything in memory about a person who withdrew."""
        self._known.forget(person)

    def score(self, token: ResponseToken) -> dict[str, Any]:
        """What the reading of a question implies.

        Args:
            token: of one of its answers.

        Returns:
            `{"probability_left": p}`, or `{"abstain": True, "reason": ...}`: "one_answer" (nothing to compare),
            "not_read" (no mouse on the text), "touch" (there is no cursor to follow), "too_little" (the mouse was on
            the two texts for less than `LEAST_DWELL_MS`) or "undecided" (neither answer has `LEAST_SURE`).

        Raises:
            Unknown: the answer is no longer registered.
        """
        with self._store.reading() as connection:
            if not connection.scalar(
                select(RESPONSES.c.response_id).where(RESPONSES.c.response_id == token.response_id)
            ):
                raise Unknown
            known = self._known.of(connection, token.person)
        question = self._pseudonyms.number("question", token.person, token.question_id)
        rows = None if known.rows is None else center_by_worker(known.rows).filter(pl.col("question_id") == question)
        if rows is None or rows.is_empty():
            return _abstain("not_read")
        if rows["mode"][0] == "pointwise":
            return _abstain("one_answer")
        if question in known.touched:
            return _abstain("touch")
        dwell = rows.select(dwell_on_text()).item()
        if not dwell:
            return _abstain("not_read")
        if dwell < LEAST_DWELL_MS:
            return _abstain("too_little")
        probability = float(self._model.score(rows)[0])
        if max(probability, 1 - probability) < LEAST_SURE:
            return _abstain("undecided")
        return {"probability_left": probability}


def _abstain(reason: str) -> dict[str, Any]:
    return {"abstain": True, "reason": reason}
