"""What was collected: people, consents, answers, batches, ratings. Every change is durable before it is reported."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, ColumnElement, Connection, Table, delete, func, insert, or_, select, update
from sqlalchemy.engine import Row

from ifllm_hub.collect.store.intake import DAY_MS, Arrival, StoredBatch, hold_people, take_in
from ifllm_hub.collect.store.refusals import OtherArm, Unknown, Withdrawn
from ifllm_hub.collect.store.schema import VERSION_TABLE
from ifllm_hub.collect.store.tables import (
    BATCHES,
    CONSENTS,
    ERASURES,
    EXPORTS,
    NOTES,
    PEOPLE,
    RATINGS,
    RESPONSES,
    SESSIONS,
    connect,
)
from ifllm_hub.collect.store.writer import Writer
from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import Side

_log = logging.getLogger(__name__)
_CHECKPOINT_SECONDS = 30


@dataclass(frozen=True)
class Answer:
    """An answer as it is registered; see `wire.Registration`, also for what may be missing. `person` is a pseudonym."""

    response_id: str
    person: str
    question_id: str
    side: str
    text: str
    query: str
    conversation: str
    model: str
    bullet_points: bool
    arm: str | None = None
    propensity: float | None = None


@dataclass(frozen=True)
class RatingValues:
    """A rating; None where the person gave no answer."""

    rating: int | None
    preference: Side | None
    better_than_previous: bool | None


class Store:
    """The store of a collector.

    Args:
        url: SQLAlchemy URL of SQLite or PostgreSQL.

    Raises:
        IfllmError: see `tables.connect`.
    """

    def __init__(self, url: str | URL):
        self._engine = connect(url)
        self._writer = Writer(self._engine)

    @property
    def url(self) -> str:
        """Of the database, with the password."""
        return self._engine.url.render_as_string(hide_password=False)

    def close(self) -> None:
        self._writer.close()
        self._engine.dispose()

    def register(self, answer: Answer, consent: str | None, now: int) -> "Future[None]":
        """Store an answer, or its new text.

        Args:
            consent: version of the text that the person has agreed to, according to the integrator; it readmits a
                person who had withdrawn.

        Raises:
            Withdrawn: (in the future) the person has withdrawn and not agreed again.
            OtherArm: (in the future) an answer to this question was registered in another arm.
        """

        def work(connection: Connection) -> None:
            person = _person(connection, answer.person, now)
            if _is_withdrawn(person) and consent is None:
                raise Withdrawn
            values = {**vars(answer), "registered_at": now}
            if answer.arm is None:
                del values["arm"], values["propensity"]  # what an earlier registration said stays
            elif _is_in_another_arm(connection, answer):
                raise OtherArm
            if _is_withdrawn(person):
                renewed = update(PEOPLE).where(PEOPLE.c.person == answer.person).values(renewed_at=now)
                connection.execute(renewed)
            if consent is not None:
                _consent(connection, answer.person, consent, now)
            known = RESPONSES.c.response_id == answer.response_id
            if connection.scalar(select(RESPONSES.c.response_id).where(known)):
                del values["registered_at"]  # the first registration is when it was asked
                values["revision"] = RESPONSES.c.revision + 1
                connection.execute(update(RESPONSES).where(known).values(values))
            else:
                connection.execute(insert(RESPONSES).values(values))

        return self._writer.submit(work)

    def accept(self, batch: StoredBatch, now: int, day_bytes: int | None = None) -> "Future[bool]":
        """Store a batch; the result says whether it was stored already, with the same body.

        Args:
            day_bytes: the most that is stored for a person per day (UTC), counting each batch as its body plus 1 KiB;
                None: no limit.

        Raises:
            Withdrawn, Conflict, Full: (in the future).
        """

        return self._writer.submit_alike(take_in, Arrival(batch, now, day_bytes))

    def rate(self, response_id: str, person: str, said: RatingValues, issued_at: int, now: int) -> "Future[None]":
        """Store a person's rating of an answer; later values replace earlier ones.

        Raises:
            Withdrawn, Unknown: (in the future).
        """

        def work(connection: Connection) -> None:
            known = _person(connection, person, now)
            if known.withdrawn_at is not None and issued_at <= known.withdrawn_at:
                raise Withdrawn
            if not connection.scalar(select(RESPONSES.c.response_id).where(RESPONSES.c.response_id == response_id)):
                raise Unknown
            values: dict[str, Any] = {name: value for name, value in vars(said).items() if value is not None}
            rated = RATINGS.c.response_id == response_id
            if connection.scalar(select(RATINGS.c.response_id).where(rated)):
                connection.execute(update(RATINGS).where(rated).values(**values, rated_at=now))
            else:
                connection.execute(
                    insert(RATINGS).values(response_id=response_id, person=person, rated_at=now, **values)
                )

        return self._writer.submit(work)

    def agree(self, person: str, version: str, now: int) -> "Future[None]":
        """Store that a person agreed to a version of the consent text, before there is any answer.

        Raises:
            Withdrawn: (in the future) the person has withdrawn.
        """

        def work(connection: Connection) -> None:
            if _is_withdrawn(_person(connection, person, now)):
                raise Withdrawn
            _consent(connection, person, version, now)

        return self._writer.submit(work)

    def note(self, person: str, conversation: str, values: Mapping[str, str], now: int) -> "Future[None]":
        """Store what a study asks about a person or a conversation; later values replace earlier ones.

        Raises:
            Withdrawn: (in the future) the person has withdrawn.
        """

        def work(connection: Connection) -> None:
            if _is_withdrawn(_person(connection, person, now)):
                raise Withdrawn
            here = (NOTES.c.person == person) & (NOTES.c.conversation == conversation)
            connection.execute(delete(NOTES).where(here & NOTES.c.name.in_(list(values))))
            for name, value in values.items():
                connection.execute(
                    insert(NOTES).values(person=person, conversation=conversation, name=name, value=value, noted_at=now)
                )

        return self._writer.submit(work)

    def withdraw(self, person: str, worker_id: str, now: int, issued_at: int | None = None) -> "Future[int]":
        """Delete what is stored about a person, and note that exports must lose it too; see `upkeep.erase_exports`.

        An unknown person is recorded as withdrawn, so that nothing about them is accepted later.

        Args:
            worker_id: the person's pseudonym in exports.
            issued_at: of the token used; nothing is done if the person has withdrawn since it was issued.

        Returns:
            How many batches were deleted.
        """

        def work(connection: Connection) -> int:
            known = _person(connection, person, now)
            if issued_at is not None and known.withdrawn_at is not None and issued_at <= known.withdrawn_at:
                return 0
            batches = connection.execute(delete(BATCHES).where(BATCHES.c.person == person)).rowcount
            for table in (SESSIONS, RATINGS, RESPONSES, NOTES):
                connection.execute(delete(table).where(table.c.person == person))
            gone = {"withdrawn_at": now, "stored_day": 0, "stored_bytes": 0}
            connection.execute(update(PEOPLE).where(PEOPLE.c.person == person).values(gone))
            agreed = (CONSENTS.c.person == person) & CONSENTS.c.withdrawn_at.is_(None)
            connection.execute(update(CONSENTS).where(agreed).values(withdrawn_at=now))
            for folder in connection.scalars(select(EXPORTS.c.folder)).all():
                _note_erasure(connection, folder, worker_id, now)
            return batches

        return self._writer.submit(work)

    def withdrawn_at(self, person: str) -> int | None:
        """When a person last withdrew, UTC ms; None: never."""
        with self.reading() as connection:
            return connection.scalar(select(PEOPLE.c.withdrawn_at).where(PEOPLE.c.person == person))

    def expire(self, days: int, now: int) -> "Future[dict[str, int]]":
        """Delete what is older than `days`; returns how many rows of each table were deleted."""
        before = now - days * DAY_MS
        old_answers = select(RESPONSES.c.response_id).where(RESPONSES.c.registered_at < before)

        def work(connection: Connection) -> dict[str, int]:
            def gone(table: Table, where: ColumnElement[bool]) -> int:
                return connection.execute(delete(table).where(where)).rowcount

            return {
                "batches": gone(BATCHES, BATCHES.c.received_at < before),
                "sessions": gone(SESSIONS, SESSIONS.c.session.not_in(select(BATCHES.c.session))),
                "ratings": gone(RATINGS, RATINGS.c.response_id.in_(old_answers)),
                "responses": gone(RESPONSES, RESPONSES.c.registered_at < before),
                "notes": gone(NOTES, NOTES.c.noted_at < before),
            }

        return self._writer.submit(work)

    def forget_deleted_pages(self) -> None:
        """Remove deleted content from SQLite's write-ahead log too; PostgreSQL's vacuum does this itself.

        SQLite refuses at once while another checkpoint runs, so this retries until it succeeds.
        """
        if self._engine.dialect.name != "sqlite":
            return
        patience = time.monotonic() + _CHECKPOINT_SECONDS
        with self._engine.connect().execution_options(begin=None) as connection:
            while connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar():  # busy
                if time.monotonic() > patience:
                    _log.warning("deleted content is still in the write-ahead log; the next upkeep removes it")
                    return
                time.sleep(0.01)

    def note_export(self, folder: Path, now: int) -> None:
        """Remember a folder that is about to be written, so that deletions reach it."""

        def work(connection: Connection) -> None:
            connection.execute(delete(EXPORTS).where(EXPORTS.c.folder == str(folder)))
            connection.execute(insert(EXPORTS).values(folder=str(folder), written_at=now))

        self._writer.submit(work).result()

    def erasures(self) -> list[tuple[Path, str]]:
        """Exported folders, and the `worker_id` that must still be removed from each."""
        with self.reading() as connection:
            rows = connection.execute(select(ERASURES.c.folder, ERASURES.c.worker_id).order_by(*ERASURES.primary_key))
            return [(Path(row.folder), row.worker_id) for row in rows]

    def erased(self, folder: Path, workers: Sequence[str]) -> None:
        """Note that people were removed from a folder."""

        def work(connection: Connection) -> None:
            done = (ERASURES.c.folder == str(folder)) & ERASURES.c.worker_id.in_(workers)
            connection.execute(delete(ERASURES).where(done))

        self._writer.submit(work).result()

    def withdrawn(self) -> list[str]:
        """Pseudonyms of people who have withdrawn and not agreed again: nothing may be written about them."""
        with self.reading() as connection:
            return withdrawn_people(connection)

    def check(self) -> "Future[None]":
        """Write something that changes nothing, in the writer's queue; done when that is durable."""

        def work(connection: Connection) -> None:
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = version_num")

        return self._writer.submit(work)

    def counts(self) -> dict[str, int]:
        """Rows of each table."""
        tables = (PEOPLE, RESPONSES, SESSIONS, BATCHES, RATINGS, ERASURES)
        with self.reading() as connection:
            return {table.name: connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables}

    @contextmanager
    def reading(self, snapshot: str | None = None) -> Iterator[Connection]:
        """A snapshot: its statements see nothing that is written meanwhile.

        Args:
            snapshot: the name of one that `shared_snapshot` holds, to see what it sees; None: a new one.
        """
        level = {"isolation_level": "REPEATABLE READ"} if self._engine.dialect.name == "postgresql" else {}
        with self._engine.connect().execution_options(begin="BEGIN", **level) as connection, connection.begin():
            if snapshot is not None:
                connection.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
            yield connection

    def check_shares_snapshots(self) -> None:
        """Refuse a store of which several processes cannot read one moment.

        Raises:
            IfllmError: it is in SQLite.
        """
        if self._engine.dialect.name != "postgresql":
            raise IfllmError(
                "Several processes can read one moment of a store only in PostgreSQL. Leave --engine out, or move the "
                "store to PostgreSQL (--database)."
            )

    @contextmanager
    def shared_snapshot(self) -> Iterator[str]:
        """The name of a snapshot of PostgreSQL that other processes can read until the block ends."""
        with self.reading() as connection:
            yield str(connection.scalar(select(func.pg_export_snapshot())))


def withdrawn_people(connection: Connection) -> list[str]:
    """See `Store.withdrawn`, of one snapshot."""
    gone = PEOPLE.c.withdrawn_at.is_not(None)
    stays = or_(PEOPLE.c.renewed_at.is_(None), PEOPLE.c.renewed_at < PEOPLE.c.withdrawn_at)
    return list(connection.scalars(select(PEOPLE.c.person).where(gone & stays).order_by(PEOPLE.c.person)))


def now_ms() -> int:
    """UTC ms."""
    return time.time_ns() // 1_000_000


def seconds_left_of_day(now: int) -> int:
    """Seconds until the day (UTC) ends and a person's quota starts again; at least 1."""
    return -(-(DAY_MS - now % DAY_MS) // 1_000)


def _person(connection: Connection, person: str, now: int) -> Row[Any]:
    """The person's row; see `hold_people`."""
    return hold_people(connection, {person: now})[person]


def _is_withdrawn(person: Row[Any]) -> bool:
    return person.withdrawn_at is not None and (person.renewed_at or 0) < person.withdrawn_at


def _is_in_another_arm(connection: Connection, answer: Answer) -> bool:
    """Whether the question has an arm that is not this answer's."""
    same = (RESPONSES.c.person == answer.person) & (RESPONSES.c.question_id == answer.question_id)
    stored = select(RESPONSES.c.arm, RESPONSES.c.propensity).where(same, RESPONSES.c.arm.is_not(None))
    return any((row.arm, row.propensity) != (answer.arm, answer.propensity) for row in connection.execute(stored))


def _consent(connection: Connection, person: str, version: str, now: int) -> None:
    """Note when a person agreed to a version of the consent text, once."""
    valid = (CONSENTS.c.person == person) & (CONSENTS.c.version == version) & CONSENTS.c.withdrawn_at.is_(None)
    if not connection.scalar(select(CONSENTS.c.version).where(valid)):
        connection.execute(insert(CONSENTS).values(person=person, version=version, agreed_at=now))


def _note_erasure(connection: Connection, folder: str, worker_id: str, now: int) -> None:
    asked = (ERASURES.c.folder == folder) & (ERASURES.c.worker_id == worker_id)
    connection.execute(delete(ERASURES).where(asked))
    connection.execute(insert(ERASURES).values(folder=folder, worker_id=worker_id, asked_at=now))
