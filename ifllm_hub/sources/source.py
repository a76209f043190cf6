"""The contract of whoever hands over readings; what builds a dataset knows nothing else of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import polars as pl

Account_co = TypeVar("Account_co", covariant=True)


@dataclass(frozen=True)
class Recorded(Generic[Account_co]):
    """What was recorded of some conversations.

    Attributes:
        trajectories: a row for each of their questions, in the order of `Source.questions`: the columns of the config
            `trajectories`, with empty lists where nothing was recorded.
        account: what came in, and what became of it.
    """

    trajectories: pl.DataFrame
    account: Account_co


class Source(Protocol[Account_co]):
    """Somebody's recordings: the study's release, a simulated one, a collector's store."""

    @property
    def questions(self) -> pl.DataFrame:
        """A row for each question of those who consent, the turns of a conversation in their order: `mode`, and the
        columns of the configs `pairwise` and `pointwise` that are not derived, a single answer on the left side."""

    @property
    def workers(self) -> frozenset[str]:
        """The ids of those who consent. Nothing may be written about anybody else."""

    def partitions(self, size: int) -> Sequence[Sequence[str]]:
        """All conversations (`conversation_id`) in sets that are read together.

        Args:
            size: about how many are in memory at a time.
        """

    def read(self, conversations: Sequence[str]) -> Recorded[Account_co]:
        """What was recorded of one of the `partitions`; it does not depend on the others.

        Raises:
            IfllmError: a recording is damaged.
        """
