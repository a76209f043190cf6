"""Group commit: what comes at the same time shares a transaction, and nobody hears of it before it is durable."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")
# The most jobs of one transaction: they wait for each other.
_GROUP = 256


class Refused(Exception):
    """What a job raises to its caller alone, before it has written anything."""


@dataclass
class _Job:
    work: Callable[[Connection], Any]
    future: Future = field(default_factory=Future)


class Writer:
    """One thread that carries out jobs in their order; jobs that wait together are committed together."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closed = threading.Lock()
        self._open = True
        # A daemon: a process that ends without closing has told nobody of what is not durable.
        self._thread = threading.Thread(target=self._run, name="ifllm-collect-writer", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Connection], T]) -> "Future[T]":
        """Carry out a job; its future is done when the transaction is durable, or has failed.

        Args:
            work: gets a connection inside a transaction. It may be called again if the transaction fails. What it
                raises as `Refused` reaches its caller only; any other error fails the whole job.
        """
        job = _Job(work)
        with self._closed:
            if not self._open:
                raise RuntimeError("the store is closed")
            self._jobs.put(job)
        return job.future

    def close(self) -> None:
        """Carry out what was submitted, then stop."""
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
            group, more = self._waiting([first])
            try:
                self._commit(group)
            except Exception:
                # One of them, or another process at the same time: each on its own, so that only the guilty one fails.
                for job in group:
                    self._commit_alone(job)

    def _waiting(self, group: list[_Job]) -> tuple[list[_Job], bool]:
        """What waits behind the first job; False: the writer is to stop after it."""
        while len(group) < _GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return group, False
            group.append(job)
        return group, True

    def _commit_alone(self, job: _Job) -> None:
        try:
            self._commit([job])
        except Exception as error:
            job.future.set_exception(error)

    def _commit(self, group: list[_Job]) -> None:
        outcomes: list[Any] = []
        with self._engine.begin() as connection:
            for job in group:
                try:
                    outcomes.append(job.work(connection))
                except Refused as refusal:
                    outcomes.append(refusal)
        for job, outcome in zip(group, outcomes, strict=True):
            if isinstance(outcome, Refused):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)
