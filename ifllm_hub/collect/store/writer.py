"""Group commit: jobs that arrive together share a transaction, and none is reported done before it is durable."""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from ifllm_hub.collect.store.refusals import Refused

T = TypeVar("T")
Item = TypeVar("Item")
# The most jobs in one transaction, since they wait for each other.
_GROUP = 256


class _NotBegun(Exception):
    """No transaction could be begun, because the store is locked or unreachable: no job is at fault."""

    def __init__(self, error: Exception):
        super().__init__(error)
        self.error = error


@dataclass
class _Job:
    work: Callable[[Connection, list[Any]], Sequence[Any]]
    item: Any
    future: Future = field(default_factory=Future)


class Writer:
    """One thread that runs jobs in order; jobs that wait together are committed together."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = threading.Lock()
        self._open = True
        # A daemon thread: a process that ends without closing has reported nothing that is not durable.
        self._thread = threading.Thread(target=self._run, name="ifllm-collect-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T]) -> "Future[T]":
        """Run a job; its future is done when the transaction is durable, or has failed.

        Args:
            work: gets a connection inside a transaction. It may be called again if the transaction fails. A `Refused`
                that it raises reaches its caller only; any other error fails the whole job. If the store itself fails
                (locked, full, unreachable), all jobs that waited together fail together, after one wait.
        """

        def alone(connection: Connection, _: list[None]) -> list[T | Refused]:
            try:
                return [work(connection)]
            except Refused as refusal:
                return [refusal]

        return self.submit_alike(alone, None)

    def submit_alike(self, work: Callable[[Connection, list[Item]], Sequence[T | Refused]], item: Item) -> "Future[T]":
        """Run a job together with those of the same work that wait right before and after it.

        Args:
            work: gets the items of all of them, in order, and returns the outcome of each.
            item: this job's.
        """
        job = _Job(work, item)
        with self._closed:
            if not self._open:
                raise RuntimeError("the store is closed")
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Run what was submitted, then stop."""
        with self._closed:
            if self._open:
                self._open = False
                self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            first = self._jobs.get()
            if first is None:
                return
            waiting, more = self._waiting([first])
            # Jobs cancelled before their turn are left out; from here on none can be cancelled.
            group = [job for job in waiting if job.future.set_running_or_notify_cancel()]
            try:
                self._commit(group)
            except _NotBegun as failure:
                _fail(group, failure.error)
            except Exception:
                self._commit_each(group)

    def _waiting(self, group: list[_Job]) -> tuple[list[_Job], bool]:
        """The first job and those that wait behind it; False if the writer is to stop after them."""
        while len(group) < _GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return group, False
            group.append(job)
        return group, True

    def _commit_each(self, group: list[_Job]) -> None:
        """One job failed, or another process wrote the same: run each on its own, so that only the faulty one fails."""
        for n, job in enumerate(group):
            try:
                self._commit([job])
            except _NotBegun as failure:
                return _fail(group[n:], failure.error)
            except OperationalError as error:  # the store failed, not the job: the others would only wait for the same
                return _fail(group[n:], error)
            except Exception as error:
                job.future.set_exception(error)
        return None

    def _commit(self, group: list[_Job]) -> None:
        outcomes: list[Any] = []
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._engine.begin())
            except Exception as error:
                raise _NotBegun(error) from error
            for work, alike in groupby(group, key=lambda job: job.work):
                outcomes += work(connection, [job.item for job in alike])
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Refused):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)


def _fail(group: list[_Job], error: Exception) -> None:
    for job in group:
        job.future.set_exception(error)
