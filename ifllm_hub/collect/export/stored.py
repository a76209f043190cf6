"""A collector's store as a source: the readings of everybody whose consent stands, under pseudonyms."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from ifllm_hub.collect.export.readings import readings_of
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store, withdrawn_people
from ifllm_hub.collect.store.tables import BATCHES, CONSENTS, RATINGS, RESPONSES
from ifllm_hub.dataset.splits import assign_folds
from ifllm_hub.sources.source import Recorded


@dataclass(frozen=True)
class TickAccount:
    """How many ticks and views were received, by status, and how many batches had a wrong clock (see `Readings`)."""

    statuses: Counter[str]
    view_statuses: Counter[str]
    wrong_clocks: int


@dataclass(frozen=True)
class StoredReadings:
    """A `Source`: the store as it was at one moment.

    Attributes:
        workers: everybody who consents, whether or not there is anything of theirs.
        people: those of them with answers, and how many conversations these are from.
    """

    workers: frozenset[str]
    people: dict[str, int]
    _persons: dict[str, str]  # in the store, by `worker_id`
    _connection: Connection
    _pseudonyms: Pseudonyms

    def read(self, people: Sequence[str]) -> Recorded[TickAccount]:
        """Questions with a recording or a rating, with folds; the account covers everything that these people sent."""
        readings = readings_of(self._connection, [self._persons[worker] for worker in people], self._pseudonyms)
        statuses = Counter(readings.statuses), Counter(readings.view_statuses)
        account = TickAccount(*statuses, readings.wrong_clocks)
        return Recorded(assign_folds(readings.questions, grows=True), readings.trajectories, account)

    def state(self, people: Sequence[str]) -> str:
        """The sha256 of what is stored about some people: it changes with whatever would change their rows."""
        digest = hashlib.sha256()
        persons = [self._persons[worker] for worker in people]
        stored = (BATCHES, (BATCHES.c.session, BATCHES.c.sequence, BATCHES.c.sha256))
        rated = (RATINGS, tuple(RATINGS.c))
        answered = (RESPONSES, (RESPONSES.c.response_id, RESPONSES.c.registered_at, RESPONSES.c.revision))
        for table, columns in (stored, rated, answered):
            rows = select(*columns).where(table.c.person.in_(persons)).order_by(*table.primary_key)
            for row in self._connection.execute(rows):
                digest.update(repr(tuple(row)).encode())
        return digest.hexdigest()


@contextmanager
def stored_readings(store: Store, pseudonyms: Pseudonyms, snapshot: str | None = None) -> Iterator[StoredReadings]:
    """The readings of a store as they are now; they must be read before the block ends.

    Args:
        snapshot: as they were at another moment, of PostgreSQL; see `Store.shared_snapshot`.
    """
    with store.reading(snapshot) as connection:
        gone = set(withdrawn_people(connection))
        agreed = select(CONSENTS.c.person).where(CONSENTS.c.withdrawn_at.is_(None)).distinct()
        consenting = sorted(set(connection.scalars(agreed)) - gone)
        workers = {person: pseudonyms.worker(person) for person in consenting}
        asked = select(RESPONSES.c.person, func.count(RESPONSES.c.conversation.distinct())).group_by(RESPONSES.c.person)
        conversations = {person: int(number) for person, number in connection.execute(asked)}
        yield StoredReadings(
            frozenset(workers.values()),
            {workers[person]: conversations[person] for person in consenting if person in conversations},
            {worker: person for person, worker in workers.items()},
            connection,
            pseudonyms,
        )
