"""The benchmark of scale, small: it runs on what is there, and counts what it was given."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_benchmark_runs() -> None:
    pytest.importorskip("ray")
    command = [sys.executable, "-m", "benchmarks.scale", "--score", "400", "--workers", "1", "--export", "200"]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    said = ran.stdout + ran.stderr
    assert "Traceback" not in said, said
    for counted in ("score, this process", "score, Ray, 1 worker", "export, SQLite"):
        assert counted in said
