"""The page of the docs in a real Chromium: with the script, and where a blocker stops it."""

from pathlib import Path
from typing import Any

import pytest

from tests.collect.wire import WireServer
from tests.docs.snippets import fences

pytestmark = pytest.mark.slow
DOCS = (Path(__file__).parents[3] / "docs" / "collector.md").read_text()
PAGE = fences(DOCS)["embedded page"].code + "<script>window.going = true</script>"


@pytest.mark.parametrize("blocked", [False, True])
def test_the_page_goes_on(browser: Any, wire: WireServer, blocked: bool) -> None:
    wire.pages["/page"] = PAGE
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    if blocked:
        page.route("**/ifllm/ifllm.js", lambda route: route.abort("blockedbyclient"))
    page.goto(f"{wire.url}/page")
    told = page.locator("#unrecorded")
    if blocked:
        told.wait_for(state="visible")
        assert page.locator("#agreeButton").is_disabled()
    else:
        page.locator("#agreeButton").click()
        assert told.is_hidden()
        page.locator("#withdrawButton").click()
        page.wait_for_timeout(500)
        assert wire.log[-1]["method"] == "DELETE"
        assert wire.log[-1]["headers"]["authorization"] == "Bearer PERSON_TOKEN"
    assert page.evaluate("window.going")
    assert errors == []
    page.close()
