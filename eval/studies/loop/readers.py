"""Simulated readers whose preferences are known: how they read answers, which they prefer, and how they rate.

What an answer is worth to a reader is the utility that its words have in the simulated world
(`eval/studies/known_truth/quality.py`): definite sentences about the topic, and length. Readers differ in pace, in how
their mouse follows, and in how generous they are.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import stats

from ifllm_hub.sources.simulation.page import Page
from ifllm_hub.sources.simulation.people import recruit
from ifllm_hub.sources.simulation.readers import Reader, Turn
from ifllm_hub.sources.simulation.reading import record

# A rating is the nearest of 1 to 5 to this much, plus the reader's generosity, plus chance.
MIDDLE, SLOPE = 4.5, 0.8
GENEROSITY_SD, CHANCE_SD = 0.5, 0.6
# Left is preferred with probability S((utility of left - utility of right) / this), S the logistic function.
DOUBT = 0.4
_TICKS_A_BATCH = 400
_MOUSE = 0


@dataclass(frozen=True)
class Person:
    """A reader: the id that the chat site knows them by, how they read, and how generous they are."""

    id: str
    reader: Reader
    generosity: float


def people(name: str, number: int, seed: int) -> list[Person]:
    """Readers who were never here before."""
    rng = np.random.default_rng([seed, 6])
    readers = [replace(worker.reader, splits_text=False) for worker in recruit(rng, number, 2, seed)]
    return [Person(f"{name}-{i}", reader, rng.normal(0, GENEROSITY_SD)) for i, reader in enumerate(readers)]


def ratings(rng: np.random.Generator, utilities: np.ndarray, generosity: np.ndarray | float) -> np.ndarray:
    """(n,) int, 1 to 5, of answers with these utilities."""
    felt = MIDDLE + SLOPE * utilities + generosity + rng.normal(0, CHANCE_SD, len(utilities))
    return np.clip(np.rint(felt), 1, 5).astype(int)


def expected_rating(utilities: np.ndarray) -> np.ndarray:
    """What all readers together give answers of these utilities on average; same shape.

    A rating is 1, and 1 more for each of 1.5, 2.5, 3.5 and 4.5 that is exceeded.
    """
    bounds = np.array([1.5, 2.5, 3.5, 4.5])
    spread = np.hypot(GENEROSITY_SD, CHANCE_SD)
    over = (MIDDLE + SLOPE * utilities[..., None] - bounds) / spread
    return np.asarray(1 + stats.norm.cdf(over).sum(axis=-1))


def prefers_left(rng: np.random.Generator, left: float, right: float) -> bool:
    """By the utilities of the two answers."""
    return bool(rng.random() < 1 / (1 + np.exp((right - left) / DOUBT)))


@dataclass(frozen=True)
class Reading:
    """What the tracker of a reader's page would record.

    Attributes:
        ticks: [ms, answer, x, y, character, pointer].
        events: [ms, name, answer, value].
    """

    ticks: list[list[int]]
    events: list[list[Any]]

    @property
    def batches(self) -> list[dict[str, Any]]:
        """In the parts that a page sends, the events with the last."""
        parts = [self.ticks[at : at + _TICKS_A_BATCH] for at in range(0, max(len(self.ticks), 1), _TICKS_A_BATCH)]
        return [{"ticks": part, "events": self.events if part is parts[-1] else []} for part in parts]


def read(
    rng: np.random.Generator,
    person: Person,
    texts: list[str],
    utilities: list[float],
    chosen: int,
    thumb: int | None = None,
) -> Reading:
    """One question's answers are read on a page and rated, as in the simulated study.

    Args:
        chosen: the answer that is rated higher.
        thumb: on the first answer at the end, 1 up, -1 down; None: none.
    """
    pairwise = len(texts) == 2
    page = Page(2, pairwise, person.reader.width, person.reader.height)
    liked = float(np.tanh((utilities[0] - utilities[1]) / 1.3)) if pairwise else 0.4 * float(np.tanh(utilities[0]))
    turn = Turn(tuple(texts), (liked, -liked) if pairwise else (liked,), chosen)
    recording = record(rng, person.reader, page, [turn], 0, cells=False)
    ms = recording.epoch - recording.rendered_at[0]
    chars = np.stack([recording.chars["mouse", side] for side in range(len(texts))])
    side = np.where(chars.max(axis=0) >= 0, chars.argmax(axis=0), -1)
    here = (recording.shown == 0) & (ms >= 0)
    columns = (ms, side, *recording.mouse.T, chars.max(axis=0))
    rows = np.stack([column[here] for column in columns], axis=1).tolist()
    left = [
        [after[0], "leave", before[1], _MOUSE]
        for before, after in zip(rows, [*rows[1:], [rows[-1][0] + 80, -1]], strict=True)
        if before[1] >= 0 and after[1] != before[1]
    ]
    shown = [[0, "shown", answer, None] for answer in range(len(texts))]
    thumbs = [] if thumb is None else [[rows[-1][0], "thumb", 0, thumb]]
    return Reading([[*row, _MOUSE] for row in rows if row[1] >= 0], [*shown, *left, *thumbs])
