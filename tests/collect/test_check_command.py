"""`ifllm collect check` as an integrator types it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ifllm_hub.cli import app
from ifllm_hub.collect.check import check_page
from ifllm_hub.errors import IfllmError
from tests.browser import CHROMIUM
from tests.collect.checked import Place, opened


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with opened(tmp_path / "collected") as place:
        yield place


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"needs Chromium at {CHROMIUM} (Debian: apt install chromium)")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("person", "status", "said"),
    [(None, 0, "Pages of http://127.0.0.1:"), ("PERSON_TOKEN", 1, "Give the tracker the `person_token`")],
    ids=["works", "fails"],
)
def test_a_table_and_an_exit_status(place: Place, person: str | None, status: int, said: str) -> None:
    result = CliRunner().invoke(app, ["collect", "check", place.put(person=person)])
    assert result.exit_code == status, result.output + repr(result.exception)
    assert "what to do" in result.output
    assert said in result.output
    assert place.collector.store.counts()["people"] == 0


def test_without_playwright(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(IfllmError, match=r"pip install 'ifllm_hub\[collect,check\]'"):
        check_page("http://127.0.0.1:1")


def test_without_a_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(IfllmError, match="playwright install chromium"):
        check_page("http://127.0.0.1:1")
