"""Pages with answers and the tracker, opened in a real Chromium, and a reader of them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests import waiting
from tests.collect.wire import WireServer

START = 1_790_000_000  # of the pages' clocks, s since 1970
LEFT, RIGHT = "Left answer: twelve words that somebody reads.", "Right \U0001f642 answer."
SECRET = "a secret query"
PAGE = f"""<!doctype html><meta charset="utf-8">
<style>body {{ margin: 20px; font: 20px/40px monospace; }}
#scroller {{ height: 200px; overflow: auto; }} #long {{ height: 900px; }}
dialog {{ inset: 0; width: 100%; height: 100%; }}</style>
<input id="query"><div id="scroller"><div id="left" data-ifllm-response="LEFT">{LEFT}</div>
<p id="outside">{SECRET}, outside</p><div id="long"></div></div><div id="later"></div>
<script type="module">
import {{ createTracker }} from "/tracker.js";
window.make = (options) => window.tracker = createTracker({{
  endpoint: "/ifllm/", person: "person token", consentVersion: "2026-11-29",
  flushMs: 300, retryMs: [60, 200], ...options }});
make({{}});
</script>"""
TAG = f"""<!doctype html><div id="left" data-ifllm-response="LEFT">{LEFT}</div>
<button data-ifllm-consent="grant">Agree</button><button data-ifllm-consent="withdraw">Withdraw</button>
<script type="module" src="/tracker.js" data-endpoint="/ifllm" data-person="person token" data-consent="7"></script>"""
# A part of the page that lets no click pass, made when it is opened.
DIALOG = """<dialog open><button data-ifllm-consent="grant">Yes</button>
<button data-ifllm-consent="withdraw">Stop</button></dialog>"""


@contextmanager
def opened(browser: Any, wire: WireServer) -> Iterator[Callable[..., Any]]:
    """A function that opens the page in a tab of one window, and waits for its tracker.

    The clocks of the pages stand still but in `run_for`, so that a slow machine changes nothing; or they are real.
    `page.spend` lets so many ms pass.
    """
    wire.pages["/"], wire.pages["/tag"] = PAGE, TAG
    context = browser.new_context(viewport={"width": 900, "height": 600}, has_touch=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])

    def open_page(path: str = "/", real_time: bool = False) -> Any:
        if not real_time:
            context.clock.install(time=START)
            context.clock.pause_at(START + 1)
        page = context.new_page()
        page.goto(wire.url + path)
        page.wait_for_function("window.tracker || window.ifllm")
        page.spend = page.wait_for_timeout if real_time else page.clock.run_for
        return page

    yield open_page
    context.close()


def until(page: Any, condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait, without blocking the page, until a condition holds."""
    waiting.until(condition, seconds, lambda: page.wait_for_timeout(20))


def read(page: Any, steps: int = 10, of: str = "#left") -> None:
    """Move the mouse along the first line of an answer for about a second, at the pace of a reader."""
    box = page.locator(of).bounding_box()
    for step in range(steps):
        page.mouse.move(box["x"] + 4 + step * 24, box["y"] + min(20, box["height"] / 2))
        page.spend(90)
