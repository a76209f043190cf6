"""The built wheel in an environment of its own: every command explains itself, and a whole run ends with a report."""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ifllm_hub.cli import app

ROOT = Path(__file__).parents[1]


def commands(command: Any, *words: str) -> Iterator[list[str]]:
    """The words of a command and of all below it."""
    yield list(words)
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, *words, name)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of an environment that has the wheel, what it needs to train, and nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "venv", with_pip=False)
    pip += ["--python", str(folder / "venv/bin/python")]
    subprocess.run([*pip, "install", "--constraint", ROOT / "constraints.txt", f"{wheel}[train]"], check=True)
    return folder / "venv/bin"


def ifllm(installed: Path, cwd: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([installed / "ifllm", *words], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_every_command_explains_itself(installed: Path, tmp_path: Path) -> None:
    listed = list(commands(typer.main.get_command(app)))
    assert len(listed) > 10
    for words in listed:
        done = ifllm(installed, tmp_path, *words, "--help")
        assert (done.returncode, done.stderr) == (0, ""), words
        assert "Usage: " in done.stdout, words


@pytest.mark.slow
def test_a_run_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    done = ifllm(
        installed,
        tmp_path,
        *("run", "--out", "run", "--recipe", "tiny", "--steps", "2"),
        *("--workers", "8", "--questions", "80", "--seeds", "1"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run/policy/results.json").read_text())["steps"] == 2
    assert (tmp_path / "run/report.html").is_file()
