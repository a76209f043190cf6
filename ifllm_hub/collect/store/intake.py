"""Store batches that arrived together, with a few statements for all of them instead of a few for each.

Each statement is a round trip to the database, on PostgreSQL through a socket, and after each the writer waits for
Python's interpreter lock while the server answers somebody: with five statements per batch, that was where the time
went.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from ifllm_hub.collect.store.refusals import Conflict, Full, Refused, Withdrawn
from ifllm_hub.collect.store.tables import BATCHES, CONSENTS, PEOPLE, SESSIONS

DAY_MS = 24 * 3600 * 1000
# About what a batch takes beside its body, with its indexes, so that nobody can fill the store with empty batches.
_BATCH_BYTES = 1_024
_INSERTS: dict[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


@dataclass(frozen=True)
class StoredBatch:
    """A batch as it is stored.

    Attributes:
        body: JSON: `origin`, `clock_off` (by how many ms, at least, the page's clock is off), `viewport`, `ticks`,
            `views`, `calibration`, `events`, and `responses`: response_id, text_sha256, text_length of each.
        sha256: of the body as received.
        issued_at: when the oldest of its tokens was issued, UTC ms.
    """

    session: str
    sequence: int
    person: str
    consent: str
    body: bytes
    sha256: str
    issued_at: int


@dataclass(frozen=True)
class Arrival:
    """A batch to be stored; see `Store.accept`."""

    batch: StoredBatch
    now: int
    day_bytes: int | None


@dataclass
class _Person:
    """The relevant part of a person's row, as it will be."""

    withdrawn_at: int | None
    stored_day: int
    stored_bytes: int


def take_in(connection: Connection, arrivals: Sequence[Arrival]) -> list[bool | Refused]:
    """Store batches in order, each as if it had arrived alone.

    Returns:
        For each, whether it was stored already, or why it is refused.
    """
    intake = _Intake(connection, arrivals)
    outcomes = [intake.outcome(arrival) for arrival in arrivals]
    intake.write(connection)
    return outcomes


class _Intake:
    """What is stored about the people, sessions and batches in question, and what will be."""

    def __init__(self, connection: Connection, arrivals: Sequence[Arrival]):
        batches = [arrival.batch for arrival in arrivals]
        held = hold_people(connection, {arrival.batch.person: arrival.now for arrival in arrivals})
        self._people = {name: _Person(row.withdrawn_at, row.stored_day, row.stored_bytes) for name, row in held.items()}
        named = {batch.session for batch in batches}
        sessions = select(SESSIONS.c.session, SESSIONS.c.person).where(SESSIONS.c.session.in_(named))
        self._owners = {row.session: row.person for row in connection.execute(sessions)}
        key = tuple_(BATCHES.c.session, BATCHES.c.sequence)
        stored = select(BATCHES.c.session, BATCHES.c.sequence, BATCHES.c.sha256).where(
            key.in_({(batch.session, batch.sequence) for batch in batches if batch.session in self._owners})
        )
        self._hashes = {(row.session, row.sequence): row.sha256 for row in connection.execute(stored)}
        agreed = select(CONSENTS.c.person, CONSENTS.c.version).where(
            CONSENTS.c.person.in_(list(self._people)), CONSENTS.c.withdrawn_at.is_(None)
        )
        self._consents = {(row.person, row.version) for row in connection.execute(agreed)}
        self._new_consents: list[dict[str, Any]] = []
        self._new_sessions: list[dict[str, Any]] = []
        self._new_batches: list[dict[str, Any]] = []

    def outcome(self, arrival: Arrival) -> bool | Refused:
        """Whether the batch is stored already; if it is not, and may be, it is added to those to write."""
        batch, person = arrival.batch, self._people[arrival.batch.person]
        if person.withdrawn_at is not None and batch.issued_at <= person.withdrawn_at:
            return Withdrawn()
        owner = self._owners.get(batch.session)
        sha256 = self._hashes.get((batch.session, batch.sequence))
        if owner not in (None, batch.person) or sha256 not in (None, batch.sha256):
            return Conflict()
        if sha256 is not None:
            return True
        today = arrival.now // DAY_MS
        stored = len(batch.body) + _BATCH_BYTES + (person.stored_bytes if person.stored_day == today else 0)
        if arrival.day_bytes is not None and stored > arrival.day_bytes:
            return Full()
        person.stored_day, person.stored_bytes = today, stored
        self._add(batch, arrival.now)
        return False

    def _add(self, batch: StoredBatch, now: int) -> None:
        if (batch.person, batch.consent) not in self._consents:
            self._consents.add((batch.person, batch.consent))
            self._new_consents.append({"person": batch.person, "version": batch.consent, "agreed_at": now})
        if batch.session not in self._owners:
            self._owners[batch.session] = batch.person
            self._new_sessions.append({"session": batch.session, "person": batch.person})
        self._hashes[batch.session, batch.sequence] = batch.sha256
        self._new_batches.append(
            {
                "session": batch.session,
                "sequence": batch.sequence,
                "person": batch.person,
                "sha256": batch.sha256,
                "received_at": now,
                "body": batch.body,
            }
        )

    def write(self, connection: Connection) -> None:
        for table, rows in (
            (CONSENTS, self._new_consents),
            (SESSIONS, self._new_sessions),
            (BATCHES, self._new_batches),
        ):
            if rows:
                connection.execute(insert(table), rows)
        counted = update(PEOPLE).where(PEOPLE.c.person == bindparam("whose"))
        readers = {row["person"] for row in self._new_batches}
        if readers:
            values = [
                {"whose": name, "stored_day": of.stored_day, "stored_bytes": of.stored_bytes}
                for name, of in self._people.items()
                if name in readers
            ]
            connection.execute(counted, values)


def hold_people(connection: Connection, seen: Mapping[str, int]) -> dict[str, Row[Any]]:
    """The people's rows, created if missing, and locked: a withdrawal waits for a writer, and vice versa.

    Locked in the order of their pseudonyms, so that two processes that want the same people cannot deadlock.

    Args:
        seen: pseudonyms, and when each was seen, UTC ms.
    """
    held = select(PEOPLE).where(PEOPLE.c.person.in_(sorted(seen))).order_by(PEOPLE.c.person).with_for_update()
    people = {row.person: row for row in connection.execute(held)}
    if len(people) < len(seen):
        new = [{"person": name, "first_seen": now} for name, now in sorted(seen.items()) if name not in people]
        # Another process may have created one meanwhile.
        connection.execute(_INSERTS[connection.dialect.name](PEOPLE).on_conflict_do_nothing(), new)
        people = {row.person: row for row in connection.execute(held)}
    return people
