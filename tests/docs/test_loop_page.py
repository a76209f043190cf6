"""docs/loop.md as its reader uses it: its files in an empty folder, its commands in order. Only the port is another."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ifllm_hub.collect.experiment.outcomes import OUTCOMES
from ifllm_hub.dataset.load import load_config
from tests.collect.store.processes import free_port
from tests.docs.snippets import fences
from tests.waiting import wait_for_server

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/loop.md").read_text(encoding="utf-8")
BLOCKS = fences(PAGE)
# In this order, beside the servers; `install` is what the tests run in.
TYPED = ("app.py", "first", "visitors.py", "visit", "align", "both", "revisit", "compare")


def test_every_block_is_typed() -> None:
    assert ["install", *TYPED] == list(BLOCKS)


def test_the_page_lists_the_outcomes() -> None:
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert sorted(name.strip(" `") for row in rows for name in row.split(",")) == sorted(one.name for one in OUTCOMES)


class Place:
    """A folder in which somebody follows the page."""

    def __init__(self, folder: Path):
        self.folder, self._port = folder, str(free_port())

    def run(self, name: str) -> str:
        done = subprocess.run(self._words(name), **self._as_typed(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    @contextmanager
    def serving(self, name: str) -> Iterator[None]:
        log = self.folder / f"{name}.log"
        with log.open("wb") as stream:
            server = subprocess.Popen(
                self._words(name), **self._as_typed(), stdout=stream, stderr=stream, start_new_session=True
            )
        try:
            wait_for_server(server, f"http://127.0.0.1:{self._port}/ifllm/v1/health", log, 300)
            yield
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()

    def _words(self, name: str) -> list[str]:
        return ["bash", "-ec", BLOCKS[name].code.replace("8000", self._port)]

    def _as_typed(self) -> dict[str, Any]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {"cwd": self.folder, "env": {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}}


@pytest.mark.slow
def test_once_around(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in ("app.py", "visitors.py"):
        (tmp_path / name).write_text(BLOCKS[name].code, encoding="utf-8")
    with place.serving("first"):
        place.run("visit")
    place.run("align")
    pairs = load_config(tmp_path / "runs/pairs", "pairwise")
    assert (pairs.height, pairs["worker_id"].n_unique(), pairs["preference"].null_count()) == (96, 24, 0)
    with place.serving("both"):
        place.run("revisit")
    said = place.run("compare")
    assert "The control is first." in said
    found = json.loads((tmp_path / "runs/report/arms.json").read_text())
    assert [arm["propensity"] for arm in found["arms"]] == [0.5, 0.5]
    assert sum(arm["people"] for arm in found["arms"]) == 24
    assert sum(arm["questions"] for arm in found["arms"]) == 96
    outcomes = {one["outcome"]: one for one in found["outcomes"]}
    assert {"rating", "judged", "length"} <= set(outcomes)
    rated = load_config(tmp_path / "runs/rated", "pointwise").join(
        load_config(tmp_path / "runs/rated", "signals").select("question_id", "arm"), on="question_id"
    )
    assert set(rated.select("arm", "model").iter_rows()) == {("first", "local:tiny"), ("tuned", "local:runs/tuned")}
    means = {arm: rated.filter(arm=arm)["rating"].mean() for arm in ("first", "tuned")}
    assert {mean["arm"]: mean["mean"] for mean in outcomes["rating"]["means"]} == pytest.approx(means)
    assert outcomes["rating"]["differences"][0]["mean"] == pytest.approx(means["tuned"] - means["first"])
