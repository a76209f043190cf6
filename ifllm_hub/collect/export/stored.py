"""A collector's store as a source: the readings of everybody whose consent stands, under pseudonyms."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import polars as pl
from sqlalchemy import Connection, select

from ifllm_hub.collect.export.readings import questions_of, readings_of
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import CONSENTS
from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.source import Recorded


class TooFewPeople(IfllmError):
    """Too few people whose consent stands have readings."""


@dataclass(frozen=True)
class TickAccount:
    """How many ticks were received, by status, and how many batches had a wrong clock (see `Readings`)."""

    statuses: Counter[str]
    wrong_clocks: int


@dataclass(frozen=True)
class StoredReadings:
    """A `Source`: the store as it was at one moment.

    Attributes:
        questions: those with a recording or a rating; see `Readings`.
        workers: everybody who consents, whether or not there is anything of theirs.
    """

    questions: pl.DataFrame
    workers: frozenset[str]
    _people: dict[str, str]  # by conversation, in the order of the questions
    _connection: Connection
    _pseudonyms: Pseudonyms

    def partitions(self, size: int) -> list[list[str]]:
        """Conversations in parts of about `size`; those of a person stay together, however many there are."""
        parts: list[list[str]] = [[]]
        theirs: dict[str, list[str]] = {}
        for conversation, person in self._people.items():
            theirs.setdefault(person, []).append(conversation)
        for conversations in theirs.values():
            if parts[-1] and len(parts[-1]) + len(conversations) > size:
                parts.append([])
            parts[-1] += conversations
        return parts

    def read(self, conversations: Sequence[str]) -> Recorded[TickAccount]:
        """Rows of the config `trajectories`; the account covers everything that these people sent."""
        people = dict.fromkeys(self._people[conversation] for conversation in conversations)
        every = (readings_of(self._connection, person, self._pseudonyms) for person in people)
        found = [readings for readings in every if readings is not None]
        statuses: Counter[str] = Counter()
        for readings in found:
            statuses.update(readings.statuses)
        account = TickAccount(statuses, sum(readings.wrong_clocks for readings in found))
        return Recorded(pl.concat([readings.trajectories for readings in found]), account)


@contextmanager
def stored_readings(store: Store, pseudonyms: Pseudonyms, least_people: int = 1) -> Iterator[StoredReadings]:
    """The readings of a store as they are now; they must be read before the block ends.

    Raises:
        TooFewPeople: there are no readings, or from fewer than `least_people`.
        IfllmError: two questions got the same pseudonym.
    """
    gone = set(store.withdrawn())
    with store.reading() as connection:
        agreed = select(CONSENTS.c.person).where(CONSENTS.c.withdrawn_at.is_(None)).distinct()
        consenting = sorted(set(connection.scalars(agreed)) - gone)
        every = {person: questions_of(connection, person, pseudonyms) for person in consenting}
        by_person = {person: questions for person, questions in every.items() if not questions.is_empty()}
        if len(by_person) < max(1, least_people):
            raise TooFewPeople(
                f"The store has readings or ratings of {len(by_person)} people whose consent stands; "
                f"{max(1, least_people)} are needed. Nothing was written."
            )
        questions = pl.concat(by_person.values())
        if questions["question_id"].n_unique() != questions.height:
            raise IfllmError("Two questions got the same pseudonym, which should never happen. Nothing was written.")
        yield StoredReadings(
            questions,
            frozenset(map(pseudonyms.worker, consenting)),
            {
                conversation: person
                for person, theirs in by_person.items()
                for conversation in theirs["conversation_id"].unique(maintain_order=True)
            },
            connection,
            pseudonyms,
        )
