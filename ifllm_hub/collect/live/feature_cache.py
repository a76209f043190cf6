"""A cache of features, so that a score costs only what is new about a person, not all that they ever read."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import polars as pl
from sqlalchemy import Connection, or_, select, tuple_

from ifllm_hub.collect.export.readings import SAID, Readings, assembled, registered_answers
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.tables import BATCHES, RATINGS, RESPONSES

# How many batches are remembered in all, at some 300 bytes each; beyond that, the people scored least recently are
# dropped.
_REMEMBERED = 200_000
# Batches fetched in one statement.
_AT_ONCE = 500
_Key = tuple[str, int]


@dataclass
class Known:
    """What is known about a person.

    Attributes:
        rows: the features of each question with a recording or a rating; None if there is none.
        touched: `Readings.touched`.
        batches: which answers each stored batch is about, by session and sequence.
        answers: for each registered answer, its question, its revision and whether it was rated.
    """

    rows: pl.DataFrame | None = None
    touched: frozenset[int] = frozenset()
    batches: dict[_Key, tuple[str, ...]] = field(default_factory=dict)
    answers: dict[str, tuple[str, int, bool]] = field(default_factory=dict)


class FeatureCache:
    """Features by person; only questions with something newly stored or deleted are recomputed. For one thread.

    Args:
        features: computes them, one row per question with its `question_id`, each from that question alone.
    """

    def __init__(self, pseudonyms: Pseudonyms, features: Callable[[Readings], pl.DataFrame]):
        self._pseudonyms, self._features = pseudonyms, features
        self._people: OrderedDict[str, Known] = OrderedDict()

    def of(self, connection: Connection, person: str) -> Known:
        """What is known about a person now: the same as if all of it were recomputed."""
        known = self._people.pop(person, None) or Known()
        self._refresh(known, connection, person)
        self._people[person] = known
        while len(self._people) > 1 and sum(len(each.batches) for each in self._people.values()) > _REMEMBERED:
            self._people.popitem(last=False)
        return known

    def forget(self, person: str) -> None:
        """Drop everything about a person who withdrew."""
        self._people.pop(person, None)

    def _refresh(self, known: Known, connection: Connection, person: str) -> None:
        answers, stored = _answers(connection, person), _stored(connection, person)
        new = _bodies(connection, stored - known.batches.keys())
        about = [known.batches.pop(key) for key in known.batches.keys() - stored]
        for key, body in new.items():
            known.batches[key] = tuple(response[0] for response in body["responses"])
            about.append(known.batches[key])
        # The questions of answers that were registered (again), rated or deleted, or are in batches that came or went.
        changed = {question for _, (question, _, _) in known.answers.items() ^ answers.items()}
        changed |= {answers[response][0] for responses in about for response in responses if response in answers}
        known.answers = answers
        if not changed:
            return
        theirs = {response for response, (question, _, _) in answers.items() if question in changed}
        concerned = {key for key, responses in known.batches.items() if not theirs.isdisjoint(responses)}
        bodies = new | _bodies(connection, concerned - new.keys())
        asked = registered_answers(connection, [person], changed if len(changed) <= _AT_ONCE else None)
        asked = asked.filter(pl.col("question").is_in(changed))
        readings = assembled(asked, [(key, bodies[key]) for key in sorted(concerned)], self._pseudonyms)
        numbers = [self._pseudonyms.number("question", person, question) for question in changed]
        rows = [] if known.rows is None else [known.rows.filter(~pl.col("question_id").is_in(numbers))]
        if readings.questions.height:
            rows.append(self._features(readings))
        known.rows = pl.concat(rows) if rows else None
        known.touched = known.touched.difference(numbers).union(readings.touched)


def _answers(connection: Connection, person: str) -> dict[str, tuple[str, int, bool]]:
    said = or_(*(RATINGS.c[name].is_not(None) for name in SAID))
    rows = connection.execute(
        select(RESPONSES.c.response_id, RESPONSES.c.question_id, RESPONSES.c.revision, said.label("said"))
        .outerjoin(RATINGS, RATINGS.c.response_id == RESPONSES.c.response_id)
        .where(RESPONSES.c.person == person)
    )
    return {row.response_id: (row.question_id, row.revision, bool(row.said)) for row in rows}


def _stored(connection: Connection, person: str) -> set[_Key]:
    rows = connection.execute(select(BATCHES.c.session, BATCHES.c.sequence).where(BATCHES.c.person == person))
    return {(row.session, row.sequence) for row in rows}


def _bodies(connection: Connection, keys: Iterable[_Key]) -> dict[_Key, Any]:
    named, waiting = tuple_(BATCHES.c.session, BATCHES.c.sequence), iter(keys)
    found = {}
    while part := list(islice(waiting, _AT_ONCE)):
        for row in connection.execute(select(BATCHES).where(named.in_(part))):
            found[row.session, row.sequence] = json.loads(row.body)
    return found
