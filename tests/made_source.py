"""Somebody else's recordings, made up: gaze on two answers, one of which is read longer and then preferred."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from ifllm_hub.sources.frames import as_questions, as_trajectories
from ifllm_hub.sources.source import Facts, Recorded

FACTS: Facts = {
    "name": "made-up",
    "title": "Made-up readings",
    "url": "https://example.org/readings",
    "license": "unknown",
    "terms": "Ask whoever made them.",
    "citation": "@misc{made, title={Made up}}",
    "readers": "Nobody read anything.",
    "recording": "No tracker at 12.5 Hz.",
    "problems": ["It is made up."],
    "not_comparable": ["Nothing may be compared with it."],
}


@dataclass(frozen=True)
class Made:
    """A source with so many readers of so many pairs each, and two single answers."""

    readers: int = 12
    pairs: int = 6

    @property
    def workers(self) -> frozenset[str]:
        return frozenset(f"made_{reader:02d}" for reader in range(self.readers))

    @property
    def people(self) -> dict[str, int]:
        return dict.fromkeys(sorted(self.workers), 1)

    def read(self, people: Sequence[str]) -> Recorded[Counter[str]]:
        asked, ticks = [], []
        for worker in people:
            reader = int(worker.removeprefix("made_"))
            rng = np.random.default_rng(reader)
            for number in range(self.pairs + 2):
                question = 1_000 * (reader + 1) + number
                single = number >= self.pairs
                likes_left = bool(rng.random() < 0.5)
                lengths = rng.integers(40, 200, 2)
                asked.append(
                    {
                        "question_id": question,
                        "worker_id": worker,
                        "task_id": reader + 1,
                        "turn": number + 1,
                        "query": f"What about {question}?",
                        "response_left": "l" * int(lengths[0]),
                        "response_right": None if single else "r" * int(lengths[1]),
                        "rating_left": 5 if number % 2 else 2,
                        "preference": None if single else "left" if likes_left else "right",
                        "label_crowd": None if single else "left" if lengths[0] > lengths[1] else "right",
                    }
                )
                longer, shorter = int(rng.integers(60, 90)), int(rng.integers(30, 60))
                counts = (longer, shorter) if likes_left else (shorter, longer)
                for side, count, t in (("left", counts[0], 0), ("right", 0 if single else counts[1], 80 * counts[0])):
                    for at in range(count):
                        char = int(at * (lengths[int(side == "right")] - 1) / count)
                        ticks.append({"question_id": question, "t": t + 80 * at, f"gaze_char_{side}": char})
        questions = as_questions(pl.DataFrame(asked, infer_schema_length=None))
        rows = pl.DataFrame(ticks, infer_schema_length=None)
        account = Counter({"ticks: on an answer": rows.height, "ticks: lost": 1})
        return Recorded(questions, as_trajectories(questions, rows), account)
