"""Every hostile model folder is refused with one clear error, before anything in it is followed or run.

Measured in a process of its own for each folder and loader; see `hostile/run.py`.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.reward.hostile import ALL, CANARY, Armed

ROOT = Path(__file__).parents[3]
MOST_CPU_SECONDS, MOST_BYTES = 1, 150_000_000


def outcomes(work: Path, share: float) -> list[dict[str, Any]]:
    words = [sys.executable, "-m", "tests.reward.hostile.run", str(work), str(share)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(outcome: dict[str, Any]) -> bool:
    return (
        outcome["signal"] == 0
        and not outcome["ran"]
        and not outcome["followed"]
        and not outcome["wrote"]
        and outcome["error"] == "IfllmError"
        and outcome["message"].startswith(outcome["folder"] + "/")
        and outcome["message"].isprintable()
        and len(outcome["message"]) < 500
        and outcome["bytes"] < MOST_BYTES
    )


def check(found: list[dict[str, Any]], cases: int) -> None:
    control, hostile = found[: len(ALL)], found[len(ALL) :]
    assert [(outcome["case"], outcome["loader"]) for outcome in control] == [("control", loader) for loader in ALL]
    assert [(outcome["error"], outcome["signal"]) for outcome in control] == [(None, 0)] * len(ALL)
    assert len({outcome["case"] for outcome in hostile}) >= cases
    assert [outcome for outcome in hostile if not refused(outcome)] == []


def test_a_sample_of_hostile_folders_is_refused(tmp_path: Path) -> None:
    check(outcomes(tmp_path, 0.05), 25)


@pytest.mark.slow
def test_every_hostile_folder_is_refused(tmp_path: Path) -> None:
    found = outcomes(tmp_path, 1.0)
    check(found, 600)
    assert max(outcome["seconds"] for outcome in found) < MOST_CPU_SECONDS


def test_the_canary_sings_for_whoever_trusts_the_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CANARY, str(tmp_path / "canary"))
    pickle.loads(pickle.dumps(Armed()))
    assert (tmp_path / "canary").exists()
