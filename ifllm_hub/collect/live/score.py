"""Live scores: how likely is the reader to prefer the left of two answers, and how long did a single one hold them?"""

from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import select

from ifllm_hub.collect.export.reading_time import DWELL, LEAST_DWELL_MS, dwell_on_text
from ifllm_hub.collect.live.feature_cache import FeatureCache, Known
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.refusals import Unknown
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import RESPONSES
from ifllm_hub.collect.tokens import ResponseToken
from ifllm_hub.features.centering import HABITUAL, SUFFIX, center_by_worker
from ifllm_hub.features.extract import feature_rows
from ifllm_hub.reward.engagement import COLUMNS, engagement
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.pretrained import ImplicitFeedbackReward

# How likely the likelier answer must be: below this it was preferred in 55 % of the study's pairs, above it in 67 %
# (docs/results/live_score.md, where the intervals are).
LEAST_SURE = 0.56
# Null where nothing of either text was on the screen.
SEEN = "viewport_dwell_left"


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
        needed = list(dict.fromkeys([*COLUMNS, *HABITUAL, *DWELL, SEEN, *own]))
        self._known = FeatureCache(pseudonyms, lambda readings: feature_rows(readings.trajectories).select(needed))

    def forget(self, person: str) -> None:
        """Drop everything in memory about a person who withdrew."""
        self._known.forget(person)

    def score(self, token: ResponseToken) -> dict[str, Any]:
        """What the reading of a question implies.

        Args:
            token: of one of its answers.

        Returns:
            Of two answers, `{"probability_left": p}`; of one, `{"engagement": r}`: where this reading ranks among the
            reader's others, no probability; on the study's data it does not tell, beyond chance, how an answer was
            rated (docs/results/pointwise_reward.md). Or `{"abstain": True, "reason": ...}`, of one answer with
            `"engagement": None`: "not_read" (nothing of the text was on the screen), "touch" (there is no cursor to
            follow), "no_cursor" (it was on the screen, but no mouse was on it; the model knows mice only),
            "too_little" (the mouse was on two texts for less than `LEAST_DWELL_MS`; of one, see `engagement`),
            "undecided" (neither of two has `LEAST_SURE`) or "few_readings" (of one: the reader's habit is not known).

        Raises:
            Unknown: the answer is no longer registered.
        """
        registered = select(RESPONSES.c.response_id, RESPONSES.c.side).where(
            RESPONSES.c.person == token.person, RESPONSES.c.question_id == token.question_id
        )
        with self._store.reading() as connection:
            sides = {row.response_id: row.side for row in connection.execute(registered)}
            if token.response_id not in sides:
                raise Unknown
            known = self._known.of(connection, token.person)
        question = self._pseudonyms.number("question", token.person, token.question_id)
        if "right" not in sides.values():
            return _of_one(known, question)
        return self._of_two(known, question)

    def _of_two(self, known: Known, question: int) -> dict[str, Any]:
        rows = None if known.rows is None else center_by_worker(known.rows).filter(pl.col("question_id") == question)
        if rows is None or rows.is_empty():
            return _abstain("not_read")
        if question in known.touched:
            return _abstain("touch")
        dwell = rows.select(dwell_on_text()).item()
        if not dwell:
            return _abstain("not_read" if rows[SEEN].item() is None else "no_cursor")
        if dwell < LEAST_DWELL_MS:
            return _abstain("too_little")
        probability = float(self._model.score(rows)[0])
        if max(probability, 1 - probability) < LEAST_SURE:
            return _abstain("undecided")
        return {"probability_left": probability}


def _of_one(known: Known, question: int) -> dict[str, Any]:
    found = [] if known.rows is None else engagement(known.rows).filter(question_id=question).rows()
    rank, reason = found[0][1:] if found else (None, "not_read")
    if reason is None:
        return {"engagement": rank}
    return {"engagement": None, **_abstain("touch" if reason == "not_read" and question in known.touched else reason)}


def _abstain(reason: str) -> dict[str, Any]:
    return {"abstain": True, "reason": reason}
