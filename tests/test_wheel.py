"""The wheel, installed by itself: every command says what it takes, and the whole path runs without the checkout."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import typer

from ifllm_hub.cli import app
from tests.conftest import made_once

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def command_words(command: typer.core.TyperGroup, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command and group."""
    words = [before]
    for name, inner in command.commands.items():
        is_group = hasattr(inner, "commands")
        words += command_words(inner, (*before, name)) if is_group else [(*before, name)]
    return words


def run(*line: str | Path, folder: Path) -> str:
    """The output of a program that ends well, with nothing of this checkout in its environment."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new environment with the wheel and what it needs, without any extra."""

    def make(folder: Path) -> None:
        folder.mkdir()
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT, folder=folder)
        run(sys.executable, "-m", "venv", folder / "env", folder=folder)
        (wheel,) = folder.glob("*.whl")
        run(folder / "env/bin/python", "-m", "pip", "install", "--quiet", wheel, folder=folder)

    return made_once("wheel", make, tmp_path_factory) / "env" / "bin"


def test_every_command_says_what_it_takes(installed: Path, tmp_path: Path) -> None:
    """In one process for all, or each would import Polars and Arrow anew."""
    every = command_words(typer.main.get_command(app))
    assert len(every) > 20
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom ifllm_hub.cli import app\n"
        f"for words in {every!r}:\n"
        "    done = CliRunner().invoke(app, [*words, '--help'])\n"
        "    assert done.exit_code == 0 and 'Usage' in done.output, (words, done.output, done.exception)\n"
        "assert not {'torch', 'trl', 'gradio'} & set(sys.modules)\n"
    )
    run(installed / "python", "-W", "error::SyntaxWarning", "-c", script, folder=tmp_path)


def test_everything_runs_from_it(installed: Path, tmp_path: Path) -> None:
    """What the extra `train` brings is taken from the environment of the tests: downloading torch shows nothing."""
    extras = Path(sysconfig.get_path("purelib"))
    (own,) = (installed.parent / "lib").glob("python*/site-packages")
    (own / "extras.pth").write_text(f"{extras}\n")
    try:
        where = run(installed / "python", "-c", "import ifllm_hub; print(ifllm_hub.__file__)", folder=tmp_path)
        assert Path(where.strip()).is_relative_to(own)
        options = ["--workers=8", "--questions=60", "--seed=3", "--seeds=1", "--recipe=tiny", "--steps=1"]
        said = run(installed / "ifllm", "run", "--out", "run", *options, folder=tmp_path)
    finally:
        (own / "extras.pth").unlink()
    assert "report:" in said
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
