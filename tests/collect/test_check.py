"""What `ifllm collect check` and `tracker.diagnose()` say of pages that do not work, in a real Chromium."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ifllm_hub.collect.check import Finding, examine
from ifllm_hub.collect.server.problems import Problem
from ifllm_hub.collect.store.store import now_ms
from ifllm_hub.errors import IfllmError
from tests.collect.checked import SUBPATH, TEXT, Place, opened
from tests.collect.store.processes import free_port, start_server

SCRIPT, CHECK, HEALTH = "/ifllm/ifllm.js", "/ifllm/v1/check", "/ifllm/v1/health"
# Agrees by itself, and notes what it asks for.
AGREEING = """<script>
const asking = window.fetch;
window.tried = [];
window.fetch = (url, init) => (tried.push(`${url}`), asking(url, init));
</script>
<script type="module">ifllm.grantConsent(); setInterval(ifllm.flush, 200)</script>"""
EMPTY = {"people": 0, "responses": 0, "sessions": 0, "batches": 0, "ratings": 0, "erasures": 0}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with opened(tmp_path_factory.mktemp("checked") / "collected") as place:
        yield place


@pytest.fixture
def place(everything: Place) -> Iterator[Place]:
    yield everything
    everything.front.pages.clear()
    everything.front.instead.clear()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    context = browser.new_context(service_workers="block")
    yield context.new_page()
    context.close()


def found(page: Any, url: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(page, url, patience=0.5)}


def failing(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.ok is False}


def test_a_page_that_works(page: Any, place: Place) -> None:
    findings = found(page, place.put())
    assert {name: finding.ok for name, finding in findings.items()} == {
        "script": True,
        "delivery": True,
        "origin": True,
        "consent": None,
        "token": True,
        "text": True,
        "clock": True,
    }
    assert "nothing is recorded or sent" in findings["consent"].said
    assert place.collector.store.counts() == EMPTY


def instead(path: str, response: Response) -> Callable[[Place], str]:
    def put(place: Place) -> str:
        place.front.instead[path] = response
        return place.put()

    return put


def moved(place: Place) -> str:
    place.front.pages["/login"] = HTMLResponse("<h1>Log in</h1>")
    place.front.instead[SCRIPT] = RedirectResponse("/login")
    return place.put()


def without_tracker(place: Place) -> str:
    place.front.pages["/page"] = HTMLResponse("<p>Hello")
    return f"{place.url}/page"


def as_in_the_docs(place: Place) -> str:
    """A module loads the script, and does without it where it is not there."""
    place.front.instead[SCRIPT] = Response(status_code=404)
    html = f'<script type="module">import("{SCRIPT}").catch(() => 0)</script>'
    place.front.pages["/page"] = HTMLResponse(html)
    return f"{place.url}/page"


def withdrawn(place: Place) -> str:
    url = place.put(token=place.token(person="eve"), person=place.person_token("eve"))
    place.collector.store.withdraw("eve", "worker", now_ms() + 1_000).result()
    return url


HTML = HTMLResponse("<h1>Welcome to our network</h1>")
STATES: dict[str, tuple[str, Callable[[Place], str], str, str]] = {
    "no tracker": ("script", without_tracker, "no tracker on this page", "Add the script"),
    "no script": ("script", instead(SCRIPT, Response(status_code=404)), "(404)", "Correct the endpoint"),
    "no script in a module": ("script", as_in_the_docs, "(404)", "Correct the endpoint"),
    "HTML for the script": ("script", instead(SCRIPT, HTML), "text/html", "correct the endpoint"),
    "script moved": ("script", moved, "/login", "correct the endpoint"),
    "script forbidden": ("script", lambda place: place.put(policy="script-src 'none'"), "Policy forbids", "script-src"),
    "another script": (
        "script",
        instead(SCRIPT, Response("1", media_type="text/javascript")),
        "no createTracker",
        "tracker.js",
    ),
    "no person": ("script token", lambda place: place.put(person=""), "person is missing", "data-person"),
    "server away": (
        "delivery",
        lambda place: place.put(endpoint=f"http://127.0.0.1:{free_port()}"),
        "Nothing answers",
        "Start",
    ),
    "delivery forbidden": (
        "delivery",
        lambda place: place.put(policy="connect-src 'none'"),
        "Policy forbids",
        "connect-src",
    ),
    "wrong endpoint": ("delivery", lambda place: place.put(endpoint="/elsewhere"), "(404)", "Correct the endpoint"),
    "no address": ("delivery", lambda place: place.put(endpoint="http://[a"), "not an address", "such as /ifllm"),
    "under a path": (
        "delivery",
        lambda place: (place.front.instead.update({CHECK: HTML, HEALTH: HTML}), place.put(path=f"{SUBPATH}/page"))[1],
        "text/html",
        f"{SUBPATH}/ifllm: write the endpoint without the first slash, ifllm",
    ),
    "captive portal": ("delivery", instead(CHECK, HTML), "Something else answers", "Log in to the network"),
    "small proxy": (
        "delivery",
        instead(CHECK, Response(status_code=413)),
        "as large as a batch",
        "client_max_body_size",
    ),
    "slow proxy": ("delivery", instead(CHECK, Response(status_code=429)), "limits requests", "one per second"),
    "proxy alone": (
        "delivery",
        instead(CHECK, Response(status_code=502)),
        "does not reach it (502)",
        "Start the collector",
    ),
    "too many": ("delivery", instead(CHECK, Problem("too_many_requests").response()), "Too many", "Wait a minute"),
    "store away": ("delivery", instead(HEALTH, Problem("unavailable").response()), "store cannot be reached", "disk"),
    "origin refused": (
        "origin",
        lambda place: place.put(endpoint=f"http://localhost:{place.port}/ifllm"),
        "Pages of this origin may not report here.",
        "--origin http://127.0.0.1:",
    ),
    "no CORS": (
        "origin",
        lambda place: instead(CHECK, HTML)(place) and place.put(endpoint=f"http://localhost:{place.port}/ifllm"),
        "does not let this page read it",
        "pass on Origin",
    ),
    "other consent": ("consent", lambda place: place.put(consent="v9"), "version “v9”", "--consent “v9”"),
    "placeholder": ("token", lambda place: place.put(token="TOKEN"), "is not a token", "Register the answer"),
    "no token": ("token", lambda place: place.put(token=""), "has no token", "Put the token into"),
    "forged": (
        "token",
        lambda place: place.put(token=place.token(key=b"k" * 32)),
        "not one of this server's",
        "at this collector",
    ),
    "expired": ("token", lambda place: place.put(token=place.token(seconds=0)), "has expired", "Reload the page"),
    "withdrawn": ("token", withdrawn, "has withdrawn", "agrees again"),
    "person's on an answer": (
        "token",
        lambda place: place.put(token=place.person_token()),
        "the person's token",
        "`token`",
    ),
    "answer's for the person": (
        "token",
        lambda place: place.put(person=place.token()),
        "an answer's",
        "`person_token`",
    ),
    "placeholder person": ("token", lambda place: place.put(person="PERSON_TOKEN"), "“PERSON_TOKEN”", "`person_token`"),
    "two people": (
        "token",
        lambda place: place.put(token=place.token(person="eve")),
        "several people",
        "same `person`",
    ),
    "label before": (
        "text",
        lambda place: place.put(f"<b>Thought for 3 s</b> {TEXT}"),
        "“Thought for 3 s” stands before",
        "alone",
    ),
    "space before": (
        "text",
        lambda place: place.put(f"\n  {TEXT}"),
        "white space (3 characters) stands before",
        "alone",
    ),
    "space missing": (
        "text",
        lambda place: place.put(token=place.token(f"{TEXT}\n")),
        "line breaks differ",
        "textContent",
    ),
    "Markdown": (
        "text",
        lambda place: place.put(
            "The tides are <b>moved</b> by the <strong>moon</strong>.",
            place.token("The **tides** are _moved_ by the moon."),
        ),
        "its Markdown",
        "textContent",
    ),
    "translated": (
        "text",
        lambda place: place.put("<font><font>Der Mond bewegt die Gezeiten.</font></font>"),
        "translated",
        'translate="no"',
    ),
    "cut": (
        "text",
        lambda place: place.put(TEXT[:9]),
        "has 9 characters, and 32 are registered: it is cut",
        "complete",
    ),
    "other text": (
        "text",
        lambda place: place.put("Something else, of another model, that is longer."),
        "has 49 characters",
        "textContent",
    ),
    "empty": ("text", lambda place: place.put(" "), "is empty", "holds the text"),
    "not shown": (
        "text",
        lambda place: place.put(more="<style>p { display: none }</style>"),
        "No marked answer is shown",
        "people see",
    ),
}


# One of each check; the others take a second each as well.
QUICK = {"script forbidden", "captive portal", "origin refused", "other consent", "expired", "label before"}


@pytest.mark.parametrize(
    "state", [pytest.param(state, marks=() if state in QUICK else pytest.mark.slow) for state in STATES]
)
def test_what_fails_is_named_with_what_to_do(page: Any, place: Place, state: str) -> None:
    check, put, said, todo = STATES[state]
    findings = found(page, put(place))
    first, *more = check.split()
    assert failing(findings) == {first, *more}
    assert said in findings[first].said
    assert todo in findings[first].todo


def test_a_blocked_script(page: Any, place: Place) -> None:
    page.route(f"**{SCRIPT}", lambda route: route.abort("blockedbyclient"))
    findings = found(page, place.put())
    assert failing(findings) == {"script"}
    assert "something in this browser blocks" in findings["script"].said
    assert "without extensions" in findings["script"].todo


def test_a_page_on_https_and_a_collector_that_is_not(page: Any, place: Place) -> None:
    place.put(endpoint="http://collector.example.org/ifllm")
    html, script = place.front.pages["/page"].body, (Path(__file__).parents[2] / "ifllm_hub/collect/static/tracker.js")
    page.route("https://chat.example.org/page", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.route("https://chat.example.org/ifllm/*", lambda route: route.fulfill(path=script))
    findings = found(page, "https://chat.example.org/page")
    assert failing(findings) == {"delivery"}
    assert "is not, which browsers forbid" in findings["delivery"].said
    assert "HTTPS" in findings["delivery"].todo


def test_a_wrong_clock(page: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    url = place.put(token=place.token(seconds=3_600), person=place.person_token())
    monkeypatch.setattr("ifllm_hub.collect.server.collector.now_ms", lambda: now_ms() - 300_000)
    findings = found(page, url)
    assert failing(findings) == {"clock"}
    assert "5 minutes ahead of" in findings["clock"].said


def test_nothing_is_reported_even_by_a_page_that_agrees_by_itself(page: Any, place: Place) -> None:
    url = place.put(more=AGREEING)
    assert found(page, url)["consent"].said == "Somebody has agreed: recording is on."
    page.wait_for_function("window.tried.some((url) => url.endsWith('/v1/batches'))")
    other = page.context.new_page()
    with page.expect_event("close"):
        page.close(run_before_unload=True)
    other.goto(f"{place.url}{HEALTH}")  # what the page sent at its end has come before
    assert place.collector.store.counts()["batches"] == 0


def test_a_page_that_cannot_be_opened(page: Any, place: Place) -> None:
    with pytest.raises(IfllmError, match=r"cannot be opened \(.*ERR_CONNECTION_REFUSED.*Start its server"):
        examine(page, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(IfllmError, match="answers 404"):
        examine(page, f"{place.url}/nothing")


def test_in_the_console_of_the_page(page: Any, place: Place) -> None:
    """Of whoever made the tracker, by the collector's own file, once somebody agrees."""
    printed: list[str] = []
    page.on("console", lambda message: printed.append(message.type))
    page.goto(place.put())
    page.evaluate("ifllm.grantConsent()")
    findings = {each["check"]: each for each in page.evaluate("ifllm.diagnose()")}
    assert findings["consent"] == {
        "check": "consent",
        "ok": True,
        "said": "Somebody has agreed: recording is on.",
        "todo": "",
    }
    assert all(each["ok"] for each in findings.values())
    assert "table" in printed


@pytest.mark.slow
def test_a_study_and_a_gradio_chat(page: Any, tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    process = start_server(tmp_path, ports[0], str(ports[1]), module="tests.collect.paged", patience=300)
    try:
        for port in ports:
            findings = found(page, f"http://127.0.0.1:{port}")
            assert failing(findings) == set()
            assert findings["script"].ok is None
            assert (findings["delivery"].ok, findings["origin"].ok) == (True, True)
            assert (findings["consent"].ok, findings["text"].ok) == (None, None)
        chat = page.context.new_page()
        chat.goto(f"http://127.0.0.1:{ports[1]}")
        chat.locator("button.label-wrap").click()
        chat.locator(".ifllm-box input").check()
        chat.locator("textarea").first.fill("Why?")
        chat.locator("textarea").first.press("Enter")
        chat.locator("[data-ifllm-complete][data-ifllm-response]").wait_for()
        chat.wait_for_function("window.ifllm")
        assert [each for each in chat.evaluate("ifllm.diagnose()") if not each["ok"]] == []
    finally:
        process.kill()
        process.wait()
