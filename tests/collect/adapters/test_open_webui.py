"""The filter function for Open WebUI: against a real collector, and its scripts in a real page."""

import asyncio
import copy
import importlib.util
import json
import logging
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ifllm_hub.collect import wire as contract
from tests.collect.adapters.misbehaving import ANSWERS, Misbehaving
from tests.collect.client import ORIGIN, batch, encoded
from tests.collect.store.processes import ROOT, api_key, free_port, start_server
from tests.collect.wire import STATIC, WireServer

TEXT = 'It is </script><script>window.hit = 1</script> "quoted" \u2028 and `ticked` ${window.hit = 2}.'
BODY = {
    "chat_id": "chat-1",
    "model": "llama",
    "messages": [
        {"id": "m0", "role": "user", "content": "Why?"},
        {"id": "m1", "role": "assistant", "content": "**It** is"},
    ],
}


CHAT = {"chat_id": "chat-1", "message_id": "m1"}  # of the answer to come


def make_filter() -> Any:
    spec = importlib.util.spec_from_file_location("open_webui_filter", ROOT / "examples" / "open_webui_filter.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Filter()


def user(agreed: bool) -> dict[str, Any]:
    return {"id": "user-1", "valves": SimpleNamespace(record_my_reading=agreed)}


SHOWN = {"text": TEXT, "grew": True}


class Page:
    """Plays Open WebUI's page: it says which text the answer has there, and keeps all scripts."""

    def __init__(self, shown: Any = SHOWN) -> None:
        self.scripts: list[str] = []
        self._shown = shown

    async def __call__(self, event: dict[str, Any]) -> Any:
        assert event["type"] == "execute"
        self.scripts.append(event["data"]["code"])
        return self._shown if "textOf" in self.scripts[-1] else True

    def constants(self, script: int) -> dict[str, str]:
        """What a script begins with."""
        found = re.findall(r'^(?:\(async \(\) => { )?const (\w+) = (".*");$', self.scripts[script], re.MULTILINE)
        return {name: json.loads(value) for name, value in found}


@pytest.fixture(scope="module")
def server() -> Iterator[Misbehaving]:
    server = Misbehaving()
    yield server
    server.stop()


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What the filter logged."""

    class Texts(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())

    texts: list[str] = []
    handler = Texts()
    logging.getLogger("open_webui_filter").addHandler(handler)
    yield texts
    logging.getLogger("open_webui_filter").removeHandler(handler)


def before(recorder: Any, body: Any = BODY, agreed: bool = True, emit: Any = None, chat: Any = CHAT) -> None:
    """A question of a chat, which goes on with what it was."""
    given, was = copy.deepcopy(body), copy.deepcopy(body)
    assert asyncio.run(recorder.inlet(given, user(agreed), chat, emit)) is given
    assert given == was


def after(recorder: Any, body: Any = BODY, agreed: bool = True, call: Any = None) -> None:
    """An answer of a chat, which goes on with what it was."""
    given, was = copy.deepcopy(body), copy.deepcopy(body)
    assert asyncio.run(recorder.outlet(given, user(agreed), call)) is given
    assert given == was


def at(server: Misbehaving, kind: str) -> Any:
    recorder = make_filter()
    recorder.valves.endpoint = f"{server.url}/{kind}"
    server.taken.clear()
    return recorder


@pytest.mark.parametrize("step", [before, after])
@pytest.mark.parametrize("kind", [*list(ANSWERS)[1:], "hangs_up", "silent", "down"])
def test_a_chat_goes_on_whatever_the_collector_answers(
    server: Misbehaving, logged: list[str], kind: str, step: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder, page = at(server, kind), Page()
    if kind == "down":
        recorder.valves.endpoint = f"http://127.0.0.1:{free_port()}"
    for name in ("_PATIENCE", "_PATIENCE_BEFORE"):
        monkeypatch.setattr(sys.modules["open_webui_filter"], name, 0.2 if kind == "silent" else 30)
    started = time.monotonic()
    step(recorder, BODY, True, page)
    assert time.monotonic() - started < 5
    assert not [script for script in page.scripts if "TOKEN" in script]
    (line,) = logged
    assert line.startswith("ifllm: an answer was not recorded, or none deleted (")
    status, *_ = ANSWERS.get(kind, (200, "", b""))
    assert status < 300 or f"the collector answered {status}" in line


async def closed(_: Any) -> Any:
    raise TimeoutError


async def never(_: Any) -> Any:
    await asyncio.Event().wait()


def answering(*answers: Any) -> Any:
    left = list(answers)

    async def call(_: Any) -> Any:
        return left.pop(0)

    return call


@pytest.mark.parametrize(
    "call",
    [
        closed,
        never,
        lambda _: "not awaitable",
        answering({"error": "Client session disconnected."}),
        answering(None),
        answering(""),
        answering(TEXT),
        answering({"text": None, "grew": True}),
        answering({"text": "x" * (contract.MAX_TEXT + 1), "grew": True}),
        answering(SHOWN, False),
        answering(SHOWN, {"error": "Event call timed out."}),
    ],
)
def test_a_chat_goes_on_whatever_the_page_does(
    server: Misbehaving, logged: list[str], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = at(server, "fine")
    monkeypatch.setattr(sys.modules["open_webui_filter"], "_PATIENCE", 0.2 if call is never else 10)
    after(recorder, call=call)
    assert len(logged) == 1


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": None},
        {**BODY, "messages": []},
        {**BODY, "messages": ["Why?"]},
        {**BODY, "messages": BODY["messages"][:1]},
        {**BODY, "messages": [{"role": "assistant", "content": "no id"}]},
        {**BODY, "chat_id": None},
        {**BODY, "model": None},
    ],
)
def test_a_body_of_another_shape_goes_on(server: Misbehaving, logged: list[str], body: Any) -> None:
    after(at(server, "fine"), body, call=Page())
    assert len(logged) == 1
    assert server.taken == []


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


@pytest.mark.parametrize(
    ("content", "query"),
    [
        ("Why?", "Why?"),
        ([{"type": "text", "text": "What is this?"}, IMAGE, {"type": "text", "text": "And?"}], "What is this?\nAnd?"),
        ([IMAGE], ""),
        (["odd", None, {"type": "text"}, {"type": "text", "text": "Why?"}], "Why?"),
        (None, ""),
        ({"of": "another shape"}, ""),
        ("paste \U0001f600" * 600_000, ("paste \U0001f600" * 600_000)[: contract.MAX_QUERY]),
        ("nul \0, half \ud83d", "nul \ufffd, half \ufffd"),
    ],
)
def test_of_a_question_its_text_is_recorded(server: Misbehaving, logged: list[str], content: Any, query: str) -> None:
    page = Page()
    after(
        at(server, "fine"), {**BODY, "messages": [{"role": "user", "content": content}, BODY["messages"][1]]}, call=page
    )
    assert (server.taken[0].query, server.taken[0].text) == (query, TEXT)
    assert (len(page.scripts), logged) == (2, [])


def test_chats_of_other_shapes_are_recorded(server: Misbehaving, logged: list[str]) -> None:
    question, answer = BODY["messages"]
    system, tool = {"role": "system", "content": "Be brief."}, {"role": "tool", "content": "5"}
    for messages, query in (
        ([answer], ""),  # nothing was asked
        ([system, answer], ""),
        ([system, question, {"role": "assistant", "content": ""}, tool, answer], "Why?"),
    ):
        recorder = at(server, "fine")
        after(recorder, {**BODY, "messages": messages}, call=Page())
        assert [taken.query for taken in server.taken] == [query]
    # An answer that was made anew, and those of several models, are answers with ids of their own.
    recorder = at(server, "fine")

    async def several() -> None:
        bodies = [{**BODY, "messages": [question, {**answer, "id": f"m{number}"}]} for number in range(3)]
        await asyncio.gather(*(recorder.outlet(body, user(True), Page()) for body in bodies))

    asyncio.run(several())
    assert {(taken.question_id, taken.query) for taken in server.taken} == {(f"m{n}", "Why?") for n in range(3)}
    assert logged == []


def test_text_of_an_answer_that_no_database_holds(server: Misbehaving) -> None:
    after(at(server, "fine"), call=Page({"text": "half \ud83d of an emoji", "grew": True}))
    assert server.taken[0].text == "half \ufffd of an emoji"


def test_an_answer_is_registered_as_empty_when_it_begins_and_with_its_text_when_it_is_complete(
    server: Misbehaving, logged: list[str]
) -> None:
    recorder, page = at(server, "fine"), Page()
    before(recorder, {**BODY, "messages": BODY["messages"][:1]}, emit=page)
    after(recorder, call=page)
    begun, complete = server.taken
    assert (begun.text, complete.text) == ("", TEXT)
    assert begun.model_copy(update={"text": TEXT}) == complete
    assert [page.constants(script).get("STEP") for script in range(3)] == ["begin", None, "complete"]
    constants = page.constants(2)
    assert constants == page.constants(0) | {"STEP": "complete"}
    assert (constants["TOKEN"], constants["PERSON"]) == ("TOKEN", "PERSON")
    assert {name: value.split()[0] for name, value in constants.items() if value.startswith("#")} == dict.fromkeys(
        ("SELECTOR", "UP", "DOWN"), "#message-m1"
    )
    assert logged == []


def test_an_answer_that_the_page_showed_otherwise_while_it_grew_is_another(server: Misbehaving) -> None:
    after(at(server, "fine"), call=Page({"text": TEXT, "grew": False}))
    assert (server.taken[0].question_id, server.taken[0].text) == ("m1.complete", TEXT)


def test_what_is_not_kept_is_not_recorded(server: Misbehaving, logged: list[str]) -> None:
    recorder, page = at(server, "fine"), Page()
    for chat in ("temporary:socket", "local:socket", "channel:1"):
        before(recorder, emit=page, chat=CHAT | {"chat_id": chat})
        after(recorder, {**BODY, "chat_id": chat}, call=page)
    assert (page.scripts, server.taken, logged) == ([], [], [])


def test_a_question_without_a_page_is_not_recorded(server: Misbehaving, logged: list[str]) -> None:
    recorder, page = at(server, "fine"), Page()
    before(recorder)
    for chat in (None, {}, {"chat_id": "chat-1", "message_id": None}):  # as of a program that uses the API
        before(recorder, emit=page, chat=chat)
    assert (page.scripts, server.taken, logged) == ([], [], [])


def test_settings_that_cannot_be_read_delete_nothing(server: Misbehaving, logged: list[str]) -> None:
    recorder = at(server, "fine")
    after(recorder, call=Page())
    server.taken.clear()
    for unknown in (None, {}, {"id": "user-1"}, {"id": "user-1", "valves": None}):
        assert asyncio.run(recorder.inlet(BODY, unknown, CHAT, Page())) is BODY
        assert asyncio.run(recorder.outlet(BODY, unknown, Page())) is BODY
    assert (server.taken, logged) == ([], [])


def test_switching_off_deletes_without_a_page_and_once(server: Misbehaving, logged: list[str]) -> None:
    recorder = at(server, "fine")
    after(recorder, call=Page())
    for kind in ("failed", "login_page", "deleted", "deleted"):
        recorder.valves.endpoint = f"{server.url}/{kind}"
        before(recorder, agreed=False)
    # A failure is tried again at the next question; what was deleted is not asked for again.
    assert server.taken[1:] == ["/failed/v1/people/me", "/login_page/v1/people/me", "/deleted/v1/people/me"]
    assert len(logged) == 2


def test_a_token_that_expired_says_who_must_delete(server: Misbehaving, logged: list[str]) -> None:
    recorder = at(server, "fine")
    after(recorder, call=Page())
    recorder.valves.endpoint = f"{server.url}/unauthorized"
    before(recorder, agreed=False)
    before(recorder, agreed=False)
    (line,) = logged
    assert "run ifllm collect delete user-1" in line


def test_the_filter_registers_for_who_agreed_only(tmp_path: Path) -> None:
    port = free_port()
    server = start_server(tmp_path, port)
    try:
        recorder, page = make_filter(), Page()
        recorder.valves.endpoint = f"http://127.0.0.1:{port}/ifllm"
        recorder.valves.key = "wrong"
        after(recorder, agreed=False, call=page)
        assert asyncio.run(recorder.outlet(BODY)) is BODY
        assert page.scripts == []
        after(recorder, call=page)  # the chat goes on
        assert len(page.scripts) == 1
        recorder.valves.key, page = api_key(tmp_path), Page()
        after(recorder, call=page)
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/ifllm/v1/batches",
            encoded(batch([page.constants(1)["TOKEN"]], ticks=[[1_000, 0, 5, 5, 3, 0]])),
            {"Content-Type": "text/plain", "Origin": ORIGIN},
        )
        with urllib.request.urlopen(request) as response:
            assert response.status == 202
        # Switched off: what was stored is deleted, and what a page still sends is refused.
        before(recorder, agreed=False)
        with pytest.raises(urllib.error.HTTPError, match="410"):
            urllib.request.urlopen(request)
    finally:
        server.kill()
        server.wait()


def test_its_scripts_mark_the_answer_and_run_nothing_else(browser: Any, wire: WireServer, server: Misbehaving) -> None:
    wire.pages["/"] = (
        '<!doctype html><meta charset="utf-8"><div id="message-m1"><div class="markdown-prose"></div></div>'
    )
    wire.pages["/ifllm/answers.js"] = (STATIC / "answers.js").read_text()
    page, tab = Page(), browser.new_page()
    tab.goto(wire.url)
    tab.evaluate("text => document.querySelector('.markdown-prose').textContent = text", TEXT)
    recorder = at(server, "fine")
    recorder.valves.server = recorder.valves.endpoint
    recorder.valves.endpoint = f"{wire.url}/ifllm"
    asyncio_run_in_thread(recorder.inlet(BODY, user(True), CHAT, page))
    asyncio_run_in_thread(recorder.outlet(BODY, user(True), page))
    asyncio_run_in_thread(recorder.inlet(BODY, user(False), CHAT, page))

    def run(script: int, collector: str = wire.url) -> Any:
        """As Open WebUI does."""
        code = page.scripts[script].replace(wire.url, collector)
        return tab.evaluate("code => new Function(`return (async () => { ${code} })()`)()", code)

    # A collector that the page does not reach is answered, too.
    unreachable = f"http://127.0.0.1:{free_port()}"
    assert [run(script, unreachable) for script in range(4)] == [None, None, False, None]
    assert run(0) is None  # at once: the page does not wait
    tab.locator("[data-ifllm-response]").wait_for()
    assert run(1) == {"text": TEXT, "grew": True}
    assert run(2) is True
    box = tab.locator("[data-ifllm-response=TOKEN]").bounding_box()
    for step in range(12):
        tab.mouse.move(box["x"] + 5 + 6 * step, box["y"] + box["height"] / 2)
        tab.wait_for_timeout(90)
    tab.evaluate("window.ifllm.flush()")
    assert {tick[1] for tick in wire.ticks()} == {"TOKEN"}
    run(3)
    tab.wait_for_function("ifllm.state === 'deleted'")
    assert tab.locator("[data-ifllm-response]").count() == 0
    assert tab.evaluate("window.hit") is None
    tab.close()


def asyncio_run_in_thread(work: Any) -> None:
    """Playwright's loop is running in this thread."""
    import threading

    thread = threading.Thread(target=asyncio.run, args=(work,))
    thread.start()
    thread.join()
