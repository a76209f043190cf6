"""Real server processes under load: nothing accepted is lost or stored twice, not even when the server is killed."""

import json
import logging
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine, text

from tests.collect.store.processes import free_port, start_load, start_server

logger = logging.getLogger(__name__)


def test_under_load_nothing_is_lost_or_doubled(tmp_path: Path, database: str) -> None:
    check(under_load(tmp_path, database, sessions=20, seconds=3), database, sessions=20)


@pytest.mark.slow
@pytest.mark.parametrize("servers", [1, 2])
def test_two_hundred_readers_are_answered_in_time(tmp_path: Path, database: str, servers: int) -> None:
    """On two cores that have nothing else to do. Two servers have their other readers, and each session, in turn."""
    if servers > 1 and database.startswith("sqlite"):
        pytest.skip("SQLite is for one server")
    results = under_load(tmp_path, database, sessions=200, seconds=60, servers=servers)
    check(results, database, sessions=200)
    p50, p99 = np.percentile(results["milliseconds"], [50, 99])
    # DisplayedAnswer with --log-cli-level=INFO.
    batches, busy = len(results["accepted"]), os.getloadavg()[0]
    logger.info("%d batches, accepted in %.0f ms (median), %.0f ms (p99); load %.1f", batches, p50, p99, busy)
    assert p99 <= 250


@pytest.mark.parametrize(
    ("servers", "sessions", "seconds", "kills"),
    [
        (1, 20, 4, 1),
        pytest.param(2, 20, 4, 1, marks=pytest.mark.slow),
        pytest.param(1, 200, 30, 3, marks=pytest.mark.slow),
        pytest.param(2, 200, 30, 3, marks=pytest.mark.slow),
    ],
)
def test_what_was_accepted_survives_a_kill(
    tmp_path: Path, database: str, servers: int, sessions: int, seconds: float, kills: int
) -> None:
    """Of two servers one is killed, and the readers send again to the other what they had no answer to."""
    if servers > 1 and database.startswith("sqlite"):
        pytest.skip("SQLite is for one server")
    results = under_load(tmp_path, database, sessions, seconds, servers, kills)
    check(results, database, sessions, again=True)
    # Each session's batches are all there, from the first to the last that it made.
    by_session: dict[int, list[int]] = {}
    for number, sequence, _ in results["accepted"]:
        by_session.setdefault(number, []).append(sequence)
    assert all(sorted(sequences) == list(range(len(sequences))) for sequences in by_session.values())


def under_load(
    folder: Path, database: str, sessions: int, seconds: float, servers: int = 1, kills: int = 0
) -> dict[str, Any]:
    """What the load client says in the end.

    Args:
        kills: how often the first server is killed meanwhile, and started again.
    """
    ports = [free_port() for _ in range(servers)]
    running = [start_server(folder, port, database) for port in ports]
    try:
        load = start_load(folder, ports, sessions, seconds)
        for _ in range(kills):
            time.sleep(seconds / (kills + 1))
            kill(running[0])  # SIGKILL, in the middle of it
            running[0] = start_server(folder, ports[0], database)
        assert load.wait(timeout=seconds + 120) == 0
    finally:
        for server in running:
            kill(server)
    results: dict[str, Any] = json.loads((folder / "load.json").read_text())
    return results


def check(results: dict[str, Any], database: str, sessions: int, again: bool = False) -> None:
    """Everybody was heard, and what was accepted is stored, once.

    Args:
        again: whether batches may have been sent again, after they had been stored.
    """
    assert len({number for number, _, _ in results["accepted"]}) == sessions
    assert results["refused"] == []
    assert again or results["duplicates"] == 0
    assert stored(database) == accepted(results)


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


def accepted(results: dict[str, Any]) -> list[tuple[int, int, str]]:
    return sorted((number, sequence, sha256) for number, sequence, sha256 in results["accepted"])


def stored(database: str) -> list[tuple[int, int, str]]:
    """Straight from the database, by plain SQL."""
    engine = create_engine(database)
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT session, sequence, sha256 FROM batches")).all()
    engine.dispose()
    return sorted((int(session, 16), sequence, sha256) for session, sequence, sha256 in rows)
