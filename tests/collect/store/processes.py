"""A collector in a process of its own, to be killed, and the load client in another."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.waiting import wait_for_server

ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_server(
    folder: Path, port: int, *more: str, module: str = "tests.collect.served", patience: float = 120
) -> subprocess.Popen[bytes]:
    """A server that answers; end it with `kill()` and `wait()`.

    Args:
        more: what the module takes besides the folder and the port.
        module: what is run.
        patience: seconds until it must answer.
    """
    log = folder / "server.log"
    command = [sys.executable, "-m", module, str(folder), str(port), *more]
    with log.open("ab") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)
    wait_for_server(process, f"http://127.0.0.1:{port}/ifllm/v1/health", log, patience)
    return process


def start_load(folder: Path, ports: list[int], sessions: int, seconds: float) -> subprocess.Popen[bytes]:
    """The load client, which has begun to send; it writes `load.json` into the folder, which is the servers'."""
    among = ",".join(map(str, ports))
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.collect.store.load", folder, among, str(sessions), str(seconds), api_key(folder)],
        cwd=ROOT,
    )
    while not (folder / "registered").exists():
        assert process.poll() is None, "the load client ended"
        time.sleep(0.05)
    return process


def api_key(folder: Path) -> str:
    return str(json.loads((folder / "secrets.json").read_text())["IFLLM_COLLECT_API_KEY"])
