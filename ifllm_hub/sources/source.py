"""The contract of a source of readings: all that the dataset builder knows about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypedDict, TypeVar

import polars as pl

Account_co = TypeVar("Account_co", covariant=True)


@dataclass(frozen=True)
class Recorded(Generic[Account_co]):
    """What is known about some people.

    Attributes:
        questions: one row per question, person by person, the turns of a conversation in order: `mode`, folds, `split`,
            and the columns of the configs `pairwise` and `pointwise` that are not derived; a single answer is on the
            left side. Where a source has them, also `context`, the chat that the LLM had seen, up to and with the query
            (else it is put together from the conversation's questions); `label_NAME` ("left", "right" or null): a
            second label of the pair; `kto_NAME` (true, false or null): whether a single answer is desirable; and
            columns that no other source has.
        trajectories: one row per question, in the same order, with the columns of the config `trajectories`; lists are
            empty where nothing was recorded.
        account: what came in, and what became of it.
    """

    questions: pl.DataFrame
    trajectories: pl.DataFrame
    account: Account_co


class Facts(TypedDict):
    """What the card of somebody else's recordings says about them.

    Attributes:
        name: of the source, as in `ifllm import NAME`.
        title: of the recordings.
        url: where they are from.
        license: its SPDX id in lower case as the Hub writes it, or "unknown".
        terms: what may be done with them, a sentence.
        citation: BibTeX, or empty.
        readers: who read what, and what they were asked, a sentence or two.
        recording: how reading was recorded: modality, rate, layout of the page.
        problems: what is known to be uncertain or wrong, a sentence each.
        not_comparable: how this differs from the study, and what may therefore not be compared, a sentence each.
    """

    name: str
    title: str
    url: str
    license: str
    terms: str
    citation: str
    readers: str
    recording: str
    problems: list[str]
    not_comparable: list[str]


class Source(Protocol[Account_co]):
    """A set of recordings: the study's release, a simulated one, a collector's store, or somebody else's."""

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
