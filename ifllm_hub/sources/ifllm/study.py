"""A release, the study's or a simulated one, as a source: its people, its questions, and the trajectories of each."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import polars as pl

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.frames import LENGTHS
from ifllm_hub.sources.ifllm.accounts import Accounts
from ifllm_hub.sources.ifllm.archive import TABLES, Release, TaskFolder
from ifllm_hub.sources.ifllm.questions import TableCounts, read_questions
from ifllm_hub.sources.ifllm.ticks import align_tasks
from ifllm_hub.sources.source import Recorded


@dataclass(frozen=True)
class Study:
    """A `Source`.

    Attributes:
        release: only the behavior folders of `workers` are read.
        questions: see `read_questions`; with folds where a dataset is built.
        workers: who consented.
        counts: of the cleaning of the tables.
        unanswered: see `questions.Cleaned`.
    """

    release: Release
    questions: pl.DataFrame
    workers: frozenset[str]
    counts: TableCounts
    unanswered: pl.DataFrame

    def without(self, workers: Collection[str]) -> "Study":
        """The study as if these workers had never been in it.

        Raises:
            IfllmError: a table is damaged.
        """
        if not workers:
            return self
        return replace(
            self,
            questions=self.questions.filter(~pl.col("worker_id").is_in(workers)),
            workers=self.workers.difference(workers),
            counts=read_questions(self.release, leave_out=workers).counts,
        )

    @cached_property
    def people(self) -> dict[str, int]:
        """In the order of their ids, with how many conversations of theirs have questions or behavior."""
        asked = self.questions.select("worker_id", "task_id").iter_rows()
        recorded = ((task.worker_id, task.task_id) for task in chain(*self._tasks.values()))
        return dict(sorted(Counter(worker for worker, _ in {*asked, *recorded}).items()))

    def read(self, people: Sequence[str]) -> Recorded[Accounts]:
        """Their questions, rows of the config `trajectories` with `conversation_id`, and the accounts of their files.

        Raises:
            IfllmError: a file cannot be read, or an answer was read beyond the largest possible char index.
        """
        accounts = Accounts()
        tasks = [task for person in people for task in self._tasks.get(person, ())]
        none = self.questions.clear()
        ours = pl.concat([none, *(self._asked[(person,)] for person in people if (person,) in self._asked)])
        ticks = align_tasks(tasks, ours, accounts, self.unanswered)
        return Recorded(ours, as_trajectories(ours, ticks), accounts)

    @cached_property
    def _tasks(self) -> dict[str, list[TaskFolder]]:
        """By worker, those who consented only."""
        tasks: dict[str, list[TaskFolder]] = {}
        for task in self.release.tasks:
            if task.worker_id in self.workers:
                tasks.setdefault(task.worker_id, []).append(task)
        return tasks

    @cached_property
    def _asked(self) -> dict[tuple[object, ...], pl.DataFrame]:
        return self.questions.partition_by("worker_id", as_dict=True, maintain_order=True)


def read_study(release: Release) -> Study:
    """Read only the tables of a release; behavior files are read later, by `Study.read`.

    Raises:
        IfllmError: a table is damaged, lacks a column, or holds a value outside its code.
    """
    cleaned = read_questions(release)
    return Study(release, cleaned.questions, consenting_workers(release), cleaned.counts, cleaned.unanswered)


def known_workers(release: Release) -> frozenset[str]:
    """The ids of everybody in the release's tables or behavior folders.

    Raises:
        IfllmError: a table cannot be read.
    """
    tables = (read_table(release, name)["user_id"].drop_nulls() for name in TABLES)
    return frozenset(task.worker_id for task in release.tasks).union(*tables)


def consenting_workers(release: Release) -> frozenset[str]:
    """Who consented, read from the table independently of the cleaning, so that a bug there cannot let others in."""
    yes = (pl.col("consent") == "1").fill_null(False).all()
    return frozenset(
        read_table(release, "record_info_table.csv").group_by("user_id").agg(yes=yes).filter("yes")["user_id"]
    )


def read_table(release: Release, name: str) -> pl.DataFrame:
    """A table of the release, every column as text.

    Raises:
        IfllmError: it cannot be read.
    """
    try:
        return pl.read_csv(release.root / name, infer_schema=False, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IfllmError(f"{release.root / name}: cannot be read ({error}). Unpack the release again.") from error


def as_trajectories(questions: pl.DataFrame, ticks: pl.DataFrame) -> pl.DataFrame:
    """One row per question, with lists of its ticks (rows of `align_tasks`): the config `trajectories`."""
    lists = ticks.group_by("question_id", maintain_order=True).agg(
        pl.col("schema_version").first(), pl.exclude("schema_version")
    )
    reach = [
        pl.col(f"mouse_{axis}").list.max().max().over("conversation_id").ceil().cast(pl.Int32) + 1 for axis in "xy"
    ]
    empty = [name for name, type_ in lists.schema.items() if isinstance(type_, pl.List)]
    return (
        questions.select("question_id", "worker_id", "conversation_id", "mode", **LENGTHS)
        .join(lists, on="question_id", how="left", maintain_order="left")
        .with_columns(viewport_width=reach[0], viewport_height=reach[1])
        .with_columns(pl.col(empty).fill_null([]))
    )
