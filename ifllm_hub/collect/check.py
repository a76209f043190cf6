"""Check whether recording works on a page by opening it in a headless browser: `ifllm collect check`.

This asks the page's own tracker, or `static/diagnose.js` if there is none. Nobody has agreed to anything here, so
nothing that a page would report leaves the browser, whatever the page does on its own.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifllm_hub.collect.settings import DIAGNOSIS, SCRIPT
from ifllm_hub.errors import IfllmError, first_line

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

_DIAGNOSE = Path(__file__).parent / "static" / DIAGNOSIS
_OPEN_SECONDS = 30
# How long a page may take to load the tracker, and to show answers, seconds.
_PATIENCE = 5.0
_LOOK_MS = 100
# Names of a Chromium that the machine may have.
_INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Reporting is blocked inside the page: Playwright does not see what a page sends while it closes.
_NO_REPORTS = """
navigator.sendBeacon = () => true;
const { fetch } = window;
const reports = /\\/v1\\/(batches|ratings|people\\/me)$/;
window.fetch = (asked, init) =>
  reports.test(new URL(asked.url ?? asked, location.href).pathname)
    ? Promise.reject(new TypeError("ifllm collect check reports nothing"))
    : fetch(asked, init);
"""
_HAS_TRACKER = "() => typeof window.ifllm?.diagnose === 'function'"
_HAS_ANSWERS = "() => document.querySelector('[data-ifllm-response]') !== null"
_HAS_TAG = "() => document.querySelector('script[data-endpoint]') !== null"
# The pages of a study and of a recorded chat, which load the tracker once somebody agrees.
_WAITS_FOR_CONSENT = "() => 'ifllmStudy' in window"
_OWN = "(options) => {{ {source}\nreturn diagnose(options ?? undefined); }}"


@dataclass(frozen=True)
class Finding:
    """Whether one thing works.

    Attributes:
        check: script, delivery, origin, consent, token, text or clock.
        ok: None if there was nothing to check yet.
        said: a sentence.
        todo: what to do; empty if nothing.
    """

    check: str
    ok: bool | None
    said: str
    todo: str


def check_page(url: str, patience: float = _PATIENCE) -> list[Finding]:
    """Open a page and find out which parts of its recording work.

    Args:
        url: of the page, with its scheme.
        patience: how long the page may take to load the tracker, and to show an answer, seconds.

    Raises:
        IfllmError: Playwright or a browser is missing, or the page cannot be opened.
    """
    with _opened_page() as page:
        return examine(page, url, patience)


def examine(page: "Page", url: str, patience: float = _PATIENCE) -> list[Finding]:
    """Like `check_page`, in a Playwright page whose context blocks service workers."""
    from playwright.sync_api import Error

    scripts: list[str] = []
    page.on("request", lambda request: scripts.append(request.url) if request.url.endswith(f"/{SCRIPT}") else None)
    page.add_init_script(f"{{{_NO_REPORTS}}}")
    try:
        answer = page.goto(url, timeout=1_000 * _OPEN_SECONDS)
    except Error as error:
        raise IfllmError(f"{url}: cannot be opened ({first_line(error)}). Start its server, or correct it.") from error
    if answer is not None and answer.status >= 400:
        raise IfllmError(f"{url}: answers {answer.status}. Name a page that opens without a login.")
    try:
        return [Finding(**found) for found in _diagnosed(page, scripts, patience)]
    except Error as error:
        raise IfllmError(f"{url}: cannot be checked ({first_line(error)}). Run this again.") from error


def _diagnosed(page: "Page", scripts: list[str], patience: float) -> list[dict[str, Any]]:
    _wait(page, patience, _HAS_TRACKER, _WAITS_FOR_CONSENT)
    if page.evaluate(_HAS_TRACKER):
        _wait(page, patience, _HAS_ANSWERS)
        page.route(f"**/{DIAGNOSIS}", _diagnose_by_ours)
        return list(page.evaluate("() => window.ifllm.diagnose()"))
    options = None
    if not page.evaluate(_HAS_TAG):
        if page.evaluate(_WAITS_FOR_CONSENT):
            options = {"endpoint": "ifllm"}
        elif scripts:
            options = {"endpoint": scripts[0].removesuffix(f"/{SCRIPT}"), "script": scripts[0]}
    source = _DIAGNOSE.read_text().replace("export async", "async")
    return list(page.evaluate(_OWN.format(source=source), options))


def _wait(page: "Page", patience: float, *conditions: str) -> None:
    """Wait until a condition holds, or patience ends. Polled from here, as a page's policy may forbid `eval`."""
    for _ in range(int(1_000 * patience / _LOOK_MS)):
        if any(page.evaluate(condition) for condition in conditions):
            return
        page.wait_for_timeout(_LOOK_MS)


def _diagnose_by_ours(route: "Route") -> None:
    """Serve our own script, even if the page has another copy of the tracker than the collector's."""
    headers = {"Content-Type": "text/javascript", "Access-Control-Allow-Origin": "*"}
    route.fulfill(body=_DIAGNOSE.read_text(), headers=headers)


@contextmanager
def _opened_page() -> Iterator["Page"]:
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise IfllmError("The check needs Playwright. Install it: pip install 'ifllm_hub[collect,check]'") from error
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        installed = next(filter(None, map(shutil.which, _INSTALLED)), None)
        if not own.is_file() and installed is None:
            raise IfllmError("The check needs Chromium, and none was found. Install it: playwright install chromium")
        try:
            browser = playwright.chromium.launch(executable_path=own if own.is_file() else installed)
        except Error as error:
            raise IfllmError(
                f"Chromium does not start ({first_line(error)}). Try: playwright install chromium"
            ) from error
        try:
            yield browser.new_context(service_workers="block").new_page()
        finally:
            browser.close()
