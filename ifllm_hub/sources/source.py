"""The contract of a source of readings: all that the dataset builder knows about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import polars as pl

Account_co = TypeVar("Account_co", covariant=True)


@dataclass(frozen=True)
class Recorded(Generic[Account_co]):
    """What was recorded of some conversations.

    Attributes:
        trajectories: one row per question of these conversations, in the order of `Source.questions`, with the columns
            of the config `trajectories`; lists are empty where nothing was recorded.
        account: what came in, and what became of it.
    """

    trajectories: pl.DataFrame
    account: Account_co


class Source(Protocol[Account_co]):
    """A set of recordings: the study's release, a simulated one, or a collector's store."""

    @property
    def questions(self) -> pl.DataFrame:
        """One row per question of a consenting worker, the turns of a conversation in order: `mode`, and the columns of
        the configs `pairwise` and `pointwise` that are not derived; a single answer is on the left side."""

    @property
    def workers(self) -> frozenset[str]:
        """The ids of the workers who consented. Nothing may be written about anybody else."""

    def partitions(self, size: int) -> Sequence[Sequence[str]]:
        """All conversations (`conversation_id`), in groups that are read together.

        Args:
            size: roughly how many conversations to hold in memory at a time.
        """

    def read(self, conversations: Sequence[str]) -> Recorded[Account_co]:
        """What was recorded of one of the `partitions`, whatever the others hold.

        Raises:
            IfllmError: a recording is damaged.
        """
