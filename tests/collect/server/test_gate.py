"""The pages of Gradio as strangers use them: by plain HTTP, under any name, as often as they like."""

import json
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.settings import STORE_FILE, Secrets
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import RESPONSES
from tests.collect.client import registration
from tests.collect.paged import ASK_BURST, PAGE_BURST
from tests.collect.store.processes import api_key, free_port, start_server

# The gate and the ids by themselves are in test_limits.py, the study's limits in test_study.py.
pytestmark = pytest.mark.slow


class Page:
    """A page, as far as its events go.

    Args:
        address: of the loopback network, that it is asked from.
        session: what it calls itself.
    """

    def __init__(self, url: str, address: str, session: str | None = None):
        self.session = session or uuid.uuid4().hex
        self.http = httpx.Client(base_url=url, timeout=60, transport=httpx.HTTPTransport(local_address=address))
        self._events = {each["api_name"]: each["id"] for each in self.http.get("/config").json()["dependencies"]}

    def send(self, event: str, *data: Any) -> httpx.Response:
        body = {"data": data, "fn_index": self._events[event], "session_hash": self.session}
        return self.http.post("/gradio_api/queue/join", json=body)

    def run(self, event: str, *data: Any) -> str:
        """All that comes back, as one text."""
        joined = self.send(event, *data)
        assert joined.status_code == 200, joined.text
        said = ""
        with self.http.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.session}) as events:
            for line in events.iter_lines():
                message = json.loads(line.partition("data:")[2] or "{}")
                said += str(message.get("output"))
                if message.get("msg") == "process_completed":
                    break
        return said


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Path]]:
    """The addresses of a study and of a chat, which have one folder, and that folder."""
    folder, study, chat = tmp_path_factory.mktemp("pages"), free_port(), free_port()
    process = start_server(folder, study, str(chat), module="tests.collect.paged", patience=300)
    yield f"http://127.0.0.1:{study}", f"http://127.0.0.1:{chat}", folder
    process.kill()
    process.wait()


@pytest.fixture
def page() -> Iterator[Callable[..., Page]]:
    """A function that opens a `Page`."""
    opened: list[Page] = []

    def page(*where: str) -> Page:
        opened.append(Page(*where))
        return opened[-1]

    yield page
    for each in opened:
        each.http.close()


def person_token(said: str) -> str:
    return re.findall(r'data-person=\W*"([^"\\]+)', said)[-1]


def test_a_session_under_the_name_of_somebody(pages: tuple[str, str, Path], page: Callable[..., Page]) -> None:
    _, url, folder = pages
    store, pseudonyms = Store(f"sqlite:///{folder / STORE_FILE}"), Pseudonyms(Secrets.load(folder).pseudonym)

    def people() -> list[str]:
        with store.reading() as connection:
            return [row.person for row in connection.execute(select(RESPONSES).order_by(RESPONSES.c.registered_at))]

    with httpx.Client(base_url=url, headers={"X-Ifllm-Key": api_key(folder)}) as server:
        body = registration("alice", "q1", "left", "text")
        assert server.post("/ifllm/v1/responses", json=body).status_code == 200
    stranger, other = page(url, "127.0.0.2", "alice"), page(url, "127.0.0.2")
    # The key of who agreed is made by their page; a name is none, and whoever gives one is not recorded.
    assert "data-person" not in stranger.run("chat", "Hello", None, "alice")
    keys = ((stranger, "1" * 32), (stranger, "1" * 32), (other, "2" * 32))
    tokens = [person_token(each.run("chat", "Hello", None, key)) for each, key in keys]
    alice, first, second, third = people()
    assert alice == pseudonyms.person("alice")
    assert first == second
    assert len({alice, first, third}) == 3
    for token in tokens:
        headers = {"Authorization": f"Bearer {token}"}
        assert stranger.http.delete("/ifllm/v1/people/me", headers=headers).status_code == 204
    assert people() == [alice]
    store.close()


def test_files_are_not_taken(pages: tuple[str, str, Path]) -> None:
    for url in pages[:2]:
        with httpx.Client(base_url=url) as stranger:
            for path in ("/gradio_api/upload", "/gradio_api/upload/", "//gradio_api/upload", "/gradio_api/%75pload"):
                refused = stranger.post(path, files={"files": b"x" * 1_000})
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_taken")
            for path in ("/gradio_api/component_server", "/gradio_api/stream/x", "/gradio_api/run/chat", "/login", "/"):
                assert stranger.post(path, json={}).status_code == 403
            assert stranger.get("/gradio_api/deep_link", params={"session_hash": "x"}).status_code == 403
            body = {"data": ["x" * 5_000_000], "fn_index": 0, "session_hash": "x"}
            assert stranger.post("/gradio_api/queue/join", json=body).status_code == 413
            for path in ("/docs", "/redoc", "/openapi.json"):
                assert stranger.get(path).status_code == 404


def test_bots_of_one_address_ask_no_more_than_one(pages: tuple[str, str, Path], page: Callable[..., Page]) -> None:
    url = pages[0]
    answered = 0
    for _ in range(ASK_BURST):  # each agrees, begins and asks, as far as it is let
        bot = page(url, "127.0.0.3")
        bot.run("_on_load", None)
        bot.run("_on_agree", None, True)
        bot.run("_on_start", None, "Jazz", None, None, None, None)
        answered += "echo 1" in bot.run("_on_ask", None, "Why?", None, None, None, None)
    assert answered == ASK_BURST // 2
    elsewhere = page(url, "127.0.0.4")
    elsewhere.run("_on_load", None)
    elsewhere.run("_on_agree", None, True)
    elsewhere.run("_on_start", None, "Jazz", None, None, None, None)
    assert "echo 1" in elsewhere.run("_on_ask", None, "Why?", None, None, None, None)


def test_requests_of_one_address_are_limited(pages: tuple[str, str, Path], page: Callable[..., Page]) -> None:
    for url, event in zip(pages[:2], ("_on_forget", "chat"), strict=True):
        often = page(url, "127.0.0.5")
        answers = [often.send(event, None, "0") for _ in range(PAGE_BURST + 3)]
        assert [answer.status_code for answer in answers].count(429) == 3
        assert answers[-1].json()["error"]["code"] == "too_many_requests"
        assert int(answers[-1].headers["retry-after"]) > 0
        assert page(url, "127.0.0.6").send(event, None, "0").status_code == 200
