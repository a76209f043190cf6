"""Waiting in tests: for a condition, for a server, and for as much as a process must have done before it is killed."""

import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any


def until(
    condition: Callable[[], Any], seconds: float = 30, pause: Callable[[], object] = lambda: time.sleep(0.02)
) -> None:
    """Wait until a condition holds, with `pause` between two looks."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        pause()


def wait_for_server(process: "subprocess.Popen[bytes]", url: str, log: Path, seconds: float) -> None:
    """Wait until a process, which writes to `log`, answers at a URL. If it does not, the process is killed."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except OSError:
            return False

    try:
        until(answers, seconds, lambda: time.sleep(0.1))
    except AssertionError:
        process.kill()
        process.wait()
        raise


def kill_after(process: "subprocess.Popen[bytes]", enough: Callable[[], bool], seconds: float) -> None:
    """SIGKILL a process, which must still run then, once it has done enough."""

    def ready() -> bool:
        assert process.poll() is None
        return enough()

    until(ready, seconds)
    process.kill()
    process.wait()
