"""A record of finished work, one JSON line per piece, that survives a kill: a second run does only what is missing."""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ifllm_hub.errors import IfllmError


class Journal:
    """An append-only file of records, each under its key: `with Journal(file, "key") as journal`.

    A record is on the disk when `append` returns. A line that a kill cut short is removed when the file is opened
    again. One process may have it open; its threads may append at the same time.

    Attributes:
        records: by key, those of earlier runs and those appended; of two with the same key, the later.
    """

    def __init__(self, file: Path, key: str) -> None:
        self._file = file
        self._key = key
        self._appending = threading.Lock()
        self.records: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "Journal":
        """Lock and read it.

        Raises:
            IfllmError: another process has it open, it cannot be written, or a line is damaged.
        """
        from filelock import FileLock, Timeout

        self._lock = FileLock(self._file.with_name(f".{self._file.name}.lock"), timeout=0)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._stream = self._file.open("a+b")
        except Timeout as error:
            raise IfllmError(f"{self._file}: another process is using it. Wait for it, or write elsewhere.") from error
        except OSError as error:
            raise IfllmError(f"{self._file}: cannot be written ({error.strerror}). Choose another place.") from error
        try:
            self._read()
        except IfllmError:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
        self._lock.release()

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records, and wait until the disk has them."""
        lines = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
        with self._appending:
            self._stream.write(lines.encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())
            self.records |= {record[self._key]: record for record in records}

    def _read(self) -> None:
        self._stream.seek(0)
        content = self._stream.read()
        whole = content.rfind(b"\n") + 1
        self._stream.truncate(whole)
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                record = json.loads(line)
                self.records[record[self._key]] = record
            except (ValueError, KeyError, TypeError) as error:
                raise IfllmError(
                    f"{self._file}, line {number}: damaged, or not written by this command. Delete the line; what it "
                    f"held will be made again."
                ) from error
