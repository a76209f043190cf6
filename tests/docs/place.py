"""A folder in which a page about the collector is followed as it is typed."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.collect.store.processes import free_port
from tests.docs.snippets import Fence, fences
from tests.waiting import wait_for_server

ROOT = Path(__file__).parents[2]
BLOCKS = fences((ROOT / "docs/collector.md").read_text(encoding="utf-8"))
COLLECTOR, APP, GRADIO, STREAMLIT = "8765", "8000", "7860", "8501"


class Place:
    """A folder in which somebody follows a page.

    Args:
        blocks: of the page.
        programs: folder of programs that come before those of this environment.
    """

    def __init__(self, folder: Path, blocks: dict[str, Fence] = BLOCKS, programs: Path | None = None):
        self.folder, self._blocks, self._programs = folder, blocks, programs
        self._ports = {port: str(free_port()) for port in (COLLECTOR, APP, GRADIO, STREAMLIT)}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def typed(self, name: str) -> str:
        """A block with the ports that are free here."""
        ports = re.compile(rf"\b({'|'.join(self._ports)})\b")
        return ports.sub(lambda match: self._ports[match[0]], self._blocks[name].code)

    def url(self, port: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self._ports[port]}{path}"

    def write(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(self.typed(name), encoding="utf-8")

    def run(self, name: str) -> str:
        """What a block of commands says, each of which must succeed."""
        done = subprocess.run(self._shell(name), **self._as_typed(), capture_output=True, text=True, check=False)
        skip_without_registry(done.stderr)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def start(self, name: str, url: str, patience: float = 300) -> None:
        """Run a block whose last command is a server, until it answers, for at most some seconds."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                self._shell(name), **self._as_typed(), stdout=stream, stderr=stream, start_new_session=True
            )
        self._running[name] = process
        try:
            wait_for_server(process, url, log, patience)
        except AssertionError:
            skip_without_registry(log.read_text())
            raise

    def stop(self, *names: str) -> None:
        """Stop what some blocks started; or what all did."""
        for name in names or tuple(self._running):
            process = self._running.pop(name)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _shell(self, name: str) -> list[str]:
        return ["bash", "-ec", self.typed(name)]

    def _as_typed(self) -> dict[str, Any]:
        """In the folder, with the programs of this environment, and packages that npm has got before."""
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        if self._programs is not None:
            path = f"{self._programs}:{path}"
        more = {"PATH": path, "PYTHONPATH": str(ROOT), "NPM_CONFIG_PREFER_OFFLINE": "true"}
        return {"cwd": self.folder, "env": {**os.environ, **more}}


def skip_without_registry(said: str) -> None:
    if shutil.which("npm") is None or re.search("npm error.*(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT)", said):
        pytest.skip("needs npm and its registry, or what the page installs in npm's cache")
    if re.search("Retrying .* after connection broken", said):
        pytest.skip("needs PyPI")
