"""The contract of a source of readings: all that the dataset builder knows about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import polars as pl

Account_co = TypeVar("Account_co", covariant=True)


@dataclass(frozen=True)
class Recorded(Generic[Account_co]):
    """What is known about some people.

    Attributes:
        questions: one row per question, person by person, the turns of a conversation in order: `mode`, folds, `split`,
            and the columns of the configs `pairwise` and `pointwise` that are not derived; a single answer is on the
            left side.
        trajectories: one row per question, in the same order, with the columns of the config `trajectories`; lists are
            empty where nothing was recorded.
        account: what came in, and what became of it.
    """

    questions: pl.DataFrame
    trajectories: pl.DataFrame
    account: Account_co


class Source(Protocol[Account_co]):
    """A set of recordings: the study's release, a simulated one, or a collector's store."""

    @property
    def workers(self) -> frozenset[str]:
        """The ids of the workers who consented. Nothing may be written about anybody else."""

    @property
    def people(self) -> Mapping[str, int]:
        """Everybody of whom there may be something, in the order in which their rows are written: `worker_id`, and
        roughly how many conversations are theirs."""

    def read(self, people: Sequence[str]) -> Recorded[Account_co]:
        """What is known about some of the `people`, whatever there is of others.

        Raises:
            IfllmError: a recording is damaged.
        """


def in_parts(people: Mapping[str, int], size: int) -> list[list[str]]:
    """People in groups that are read together, each of about `size` conversations and at least one person."""
    parts: list[list[str]] = []
    held = 0
    for person, conversations in people.items():
        if not parts or held + conversations > size:
            parts.append([])
            held = 0
        parts[-1].append(person)
        held += conversations
    return parts
