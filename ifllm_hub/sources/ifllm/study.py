"""A release, the study's or a simulated one, as a source: its people, its questions, and the trajectories of each."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from ifllm_hub.errors import IfllmError
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
        questions: see `read_questions`.
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

    def partitions(self, size: int) -> list[list[str]]:
        """Conversations with questions or behavior, in (worker, task) order."""
        asked = self.questions.select("worker_id", "task_id").iter_rows()
        recorded = ((task.worker_id, task.task_id) for task in self._tasks())
        conversations = [f"{worker}/{task}" for worker, task in sorted({*asked, *recorded})]
        return [conversations[start : start + size] for start in range(0, len(conversations), size)]

    def read(self, conversations: Sequence[str]) -> Recorded[Accounts]:
        """Rows of the config `trajectories` with `conversation_id`, and the accounts of these conversations' files.

        Raises:
            IfllmError: a file cannot be read, or an answer was read beyond the largest possible char index.
        """
        accounts = Accounts()
        wanted = set(conversations)
        tasks = [task for task in self._tasks() if f"{task.worker_id}/{task.task_id}" in wanted]
        ours = self.questions.filter(pl.col("conversation_id").is_in(wanted))
        ticks = align_tasks(tasks, ours, accounts, self.unanswered)
        return Recorded(as_trajectories(ours, ticks), accounts)

    def _tasks(self) -> Iterator[TaskFolder]:
        return (task for task in self.release.tasks if task.worker_id in self.workers)


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
    lengths = {
        f"length_{name}": pl.col(column).str.len_chars().cast(pl.Int32)
        for name, column in (("left", "response_left"), ("right", "response_right"), ("query", "query"))
    }
    return (
        questions.select("question_id", "worker_id", "conversation_id", "mode", **lengths)
        .join(lists, on="question_id", how="left", maintain_order="left")
        .with_columns(viewport_width=reach[0], viewport_height=reach[1])
        .with_columns(pl.col(empty).fill_null([]))
    )
