"""A recorded Gradio `ChatInterface` without a browser: what it records and passes on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.helpers import special_args
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from starlette.requests import Request

from ifllm_hub.collect import wire
from ifllm_hub.collect.adapters import gradio_chat as adapters
from ifllm_hub.collect.adapters.gradio_chat import recorded
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.store.store import now_ms
from ifllm_hub.collect.store.tables import CONSENTS, PEOPLE, RESPONSES
from ifllm_hub.errors import IfllmError

KEY, OTHER_KEY = "a" * 32, "b" * 32
MARKDOWN = "# Tides\n\nThey are **moved** by\nthe `moon` &amp; <b>sun</b>:\n\n- one\n\n| a | b |\n|---|---|\n| 1 | 2 |"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Collector]:
    collector = Collector(Settings(tmp_path / "collected"))
    yield collector
    collector.close()


def said(chat: Callable[..., AsyncIterator[Any]], *inputs: Any) -> list[Any]:
    """What is shown for a message, a history and a key, as Gradio asks for it: with the request, if there is one."""

    async def run() -> list[Any]:
        given, *_ = special_args(chat, list(inputs), None)
        return [piece async for piece in chat(*given)]

    return asyncio.run(run())


def stored(collector: Collector) -> list[Any]:
    with collector.store.reading() as connection:
        return list(connection.execute(select(RESPONSES).order_by(RESPONSES.c.registered_at)))


def shown(piece: Any) -> str:
    """The text in an answer's element, which must be all of it that is marked."""
    html = piece.value
    inside = html[html.index('<div class="ifllm-text') : html.index("<button")]
    return adapters._text(inside)


async def slowly(message: str, history: Any) -> AsyncIterator[str]:
    yield "one **tw"
    yield "one **two**"


async def later(message: str, history: Any) -> str:
    return "one **two**"


def stream(message: str, history: Any) -> Iterator[str]:
    yield "one"
    yield "one **two**"


def at_once(message: str, history: Any) -> str:
    return "one **two**"


def a_dict(message: str, history: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": "one **two**"}


def a_message(message: str, history: Any) -> Any:
    return gr.ChatMessage(content="one **two**")


class Called:
    def __call__(self, message: str, history: Any) -> str:
        return "one **two**"


KINDS = [slowly, later, stream, at_once, a_dict, a_message, Called()]


@pytest.mark.parametrize("answer", KINDS)
def test_answers_of_every_kind(collector: Collector, answer: Any) -> None:
    chat = recorded(answer, collector)
    plain = said(chat, "Why?", [], "")
    assert stored(collector) == []
    marked = said(chat, "Why?", [], KEY)
    assert len(marked) == len(plain) + 1
    last = marked[-1]
    if answer is a_dict:
        assert plain == [a_dict("", [])]
        assert last["role"] == "assistant"
        last = last["content"]
    elif answer is a_message:
        assert plain == [a_message("", [])]
        last = last.content
    else:
        assert plain[-1] == "one **two**"
    assert "<strong>two</strong>" in last.value
    (row,) = stored(collector)
    assert (row.query, row.text, row.model) == ("Why?", "one two\n", getattr(answer, "__name__", "Called"))
    assert shown(last) == row.text


def test_a_growing_answer_is_registered_as_a_beginning_of_what_it_becomes(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered, register = [], collector.register

    async def noted(asked: Any) -> Any:
        registered.append(asked.text)
        return await register(asked)

    monkeypatch.setattr(collector, "register", noted)
    pieces = said(recorded(slowly, collector), "Why?", [], KEY)
    assert registered == ["", "one two\n"]
    assert ["data-ifllm-complete" in piece.value for piece in pieces] == [False, False, True]


def test_rendered_text_is_what_is_registered(collector: Collector) -> None:
    (_, last) = said(recorded(lambda message, history: MARKDOWN, collector), "Why?", [], KEY)
    assert stored(collector)[0].text == shown(last)
    assert "They are moved by\nthe moon & <b>sun</b>:" in shown(last)
    assert "<b>sun" not in last.value.split("data-ifllm-source")[1].split(">", 1)[1]
    # A model is told what was said, not what it was shown as.
    component = {"type": "component", "component": "html", "value": last.value}
    seen: list[Any] = []
    mine = {"role": "user", "content": [{"type": "text", "text": "Why?"}, {"type": "file", "file": {"path": "x.png"}}]}
    turns = [mine, *({"role": "assistant", "content": part} for part in ([component], component, last, "plain"))]
    said(recorded(lambda message, history: seen.extend(history) or "ok", collector), "And?", turns, "")
    text = {"type": "text", "text": MARKDOWN}
    assert [turn["content"] for turn in seen] == [mine["content"], [text], MARKDOWN, MARKDOWN, "plain"]


@pytest.mark.parametrize(
    ("query", "asked", "text"),
    [
        ("x" * 48_000, "x" * 48_000, "fine"),
        ("x" * 300_000, "x" * wire.MAX_QUERY, "fine"),
        ("nul \0 and \ud83d", "nul \ufffd and \ufffd", "fine"),
        ({"text": "with a file", "files": ["x.png"]}, "with a file", "fine"),
        ({"text": None, "files": ["x.png"]}, "", "fine"),
        ("fine", "fine", "nul \0 and half of an emoji \ud83d, \r\n and \U0001f600 <script>alert(1)</script>"),
    ],
)
def test_long_odd_and_multimodal_texts(collector: Collector, query: Any, asked: str, text: str) -> None:
    (_, last) = said(recorded(lambda message, history: text, collector), query, [], KEY)
    (row,) = stored(collector)
    assert row.text == shown(last)
    assert "<script" not in last.value
    assert row.query == asked


@pytest.mark.parametrize(
    ("root_path", "mounted", "endpoint"),
    [("", "", "ifllm"), ("", "/chat", "../ifllm"), ("/lab", "/lab/of/chat", "../../ifllm"), ("/lab", "/lab", "ifllm")],
)
def test_where_a_page_finds_the_collector(root_path: str, mounted: str, endpoint: str) -> None:
    path = f"{mounted}/gradio_api/queue/join"
    scope = {"type": "http", "headers": [], "app_root_path": root_path, "root_path": "/public", "path": path}
    assert adapters._endpoint(gr.Request(Request(scope)), "/ifllm") == endpoint


@pytest.mark.parametrize(
    "answer",
    [
        ["one", "two"],
        {"role": "assistant", "content": "thinking", "metadata": {"title": "Thoughts"}},
        gr.ChatMessage(content="thinking", metadata={"title": "Thoughts"}),
        {"text": "see", "files": ["x.png"]},
        "x" * 40_000,
        "",
        None,
    ],
)
def test_what_cannot_be_recorded_is_passed_on(collector: Collector, answer: Any) -> None:
    pieces = said(recorded(lambda message, history: answer, collector), "Why?", [], KEY)
    assert all(piece is answer for piece in pieces)
    assert stored(collector) == []


def test_an_answer_that_grows_too_long(collector: Collector) -> None:
    pieces = ["short", "x" * 40_000, "x" * 50_000]
    given = said(recorded(lambda message, history: iter(pieces), collector), "Why?", [], KEY)
    assert given[1:] == [pieces[1], pieces[2], pieces[2]]
    # There is as much of it as can have been read while it was marked.
    assert [row.text for row in stored(collector)] == ["x" * 32_767]


def test_additional_outputs_are_passed_on(collector: Collector) -> None:
    pieces = said(recorded(lambda message, history: ("one", 2), collector), "Why?", [], KEY)
    assert [(shown(first), more) for first, *more in pieces] == [("one\n", [2])] * 2


def test_an_answers_own_inputs(collector: Collector) -> None:
    def answer(message: str, history: Any, style: str, request: gr.Request, words: float = 3) -> str:
        return f"{style} {request.session_hash} {words}"

    chat = recorded(answer, collector)
    # As Gradio calls it: the values of the components, between which it puts what the signature asks for.
    request = gr.Request(session_hash="page")
    inputs, *_ = special_args(chat, ["Why?", [], "", "plain", 7], request)

    async def made() -> Any:  # within a loop, so that Gradio makes none
        assert [piece async for piece in chat(*inputs)] == ["plain page 7"]
        return gr.ChatInterface(chat, additional_inputs=[adapters.consent_box(), gr.Textbox(), gr.Number()])

    assert asyncio.run(made()).is_generator
    with pytest.raises(IfllmError, match="takes a message and the history"):
        recorded(lambda message: "no", collector)


@pytest.mark.parametrize("place", ["agree", "register"])
def test_a_store_that_cannot_be_reached(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    def locked(*_: Any) -> Any:
        raise OperationalError("INSERT a secret", {}, Exception("database is locked"))

    monkeypatch.setattr(collector.store, place, locked)
    with caplog.at_level(logging.WARNING):
        assert said(recorded(stream, collector), "Why?", [], KEY) == ["one", "one **two**", "one **two**"]
    assert [record.getMessage() for record in caplog.records] == ["an answer could not be recorded (OperationalError)"]


def test_a_store_that_is_silent_holds_nobody_up(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(adapters, "_PATIENCE", 0.01)
    monkeypatch.setattr(adapters._Recording, "_registered", never)
    assert said(recorded(at_once, collector), "Why?", [], KEY) == ["one **two**"] * 2


def test_who_has_withdrawn_agrees_anew_under_another_key(collector: Collector) -> None:
    chat = recorded(at_once, collector)
    said(chat, "one", [], KEY)
    person = collector.pseudonyms.person(f"gradio-{KEY}")
    collector.store.withdraw(person, "worker", now_ms()).result()
    assert said(chat, "two", [], KEY) == ["one **two**"] * 2
    assert stored(collector) == []
    with collector.store.reading() as connection:
        assert connection.scalars(select(PEOPLE.c.renewed_at)).all() == [None]
    said(chat, "three", [], OTHER_KEY)
    assert [row.query for row in stored(collector)] == ["three"]
    with collector.store.reading() as connection:
        withdrawn = connection.execute(select(CONSENTS.c.person, CONSENTS.c.withdrawn_at)).all()
    assert {(row.person == person, row.withdrawn_at is not None) for row in withdrawn} == {(True, True), (False, False)}


def test_who_withdraws_while_an_answer_grows(collector: Collector) -> None:
    async def answer(message: str, history: Any) -> AsyncIterator[str]:
        yield "one"
        person = collector.pseudonyms.person(f"gradio-{KEY}")
        await asyncio.wrap_future(collector.store.withdraw(person, "worker", now_ms()))
        yield "one two"

    assert said(recorded(answer, collector), "Why?", [], KEY)[-1] == "one two"
    assert stored(collector) == []


@pytest.mark.parametrize("key", [None, True, "", "alice", "A" * 32, f"{KEY}\n", [KEY]])
def test_what_is_no_key_is_no_consent(collector: Collector, key: Any) -> None:
    assert said(recorded(at_once, collector), "Why?", [], key) == ["one **two**"]
    assert stored(collector) == []
