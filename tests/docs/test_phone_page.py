"""docs/phone.md as its reader uses it: its commands in an empty folder, in order, with an emulated phone."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.browser import browser
from tests.collect.study.test_phone import PHONE, swipe
from tests.docs.place import GRADIO, Place
from tests.docs.snippets import fences

PAGE = (Path(__file__).parents[2] / "docs/phone.md").read_text(encoding="utf-8")
BLOCKS = fences(PAGE)
__all__ = ["browser"]


def test_every_block_is_typed() -> None:
    assert list(BLOCKS) == ["install", "study", "export", "read.py"]  # tests run in what `install` makes


@pytest.mark.slow
def test_the_page_from_an_empty_folder(browser: Any, tmp_path: Path) -> None:
    place = Place(tmp_path, BLOCKS)
    context = browser.new_context(**PHONE)
    page = context.new_page()
    page.set_default_timeout(60_000)
    try:
        place.start("study", place.url(GRADIO))
        page.goto(place.url(GRADIO))
        page.get_by_role("checkbox").tap()
        page.locator("#agree").tap()
        page.locator("#start").tap()
        page.locator("#query textarea").fill("Why do volcanoes erupt?")
        page.locator("#ask").tap()
        page.locator("[data-ifllm-complete]").nth(1).wait_for()
        swipe(page, 330)
        page.evaluate("ifllm.flush()")
        place.run("export")
        place.write("read.py")
        done = subprocess.run([sys.executable, "read.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        first = done.stdout.split(")")[0].lstrip("(").split(", ")
        assert int(first[1]) == 0 < int(first[2])  # the first moment shows the beginning of the left answer
        assert "viewport_coverage_left" in done.stdout
        assert (tmp_path / "replay.html").is_file()
    finally:
        context.close()
        place.stop()
