"""The script for chat pages of other products, in a real Chromium."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from ifllm_hub.collect.tokens import ResponseToken, Signer
from tests.collect.wire import ME, STATIC, WireServer

PAGE = '<!doctype html><meta charset="utf-8"><body></body>'
ANSWER = "#answer-1 .text"
TEXT = "The moon moves the tides, and nobody sees it, however long they look at the water of the sea."


def token(text: str, answer: str = "1") -> str:
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Signer([b"key" * 12]).sign(ResponseToken("r", answer, "left", sha256, len(text), "p", 0, 1))


EMPTY, WHOLE = token(""), token(TEXT)


@pytest.fixture
def page(browser: Any, wire: WireServer) -> Iterator[Any]:
    wire.pages |= {"/": PAGE, "/ifllm/answers.js": (STATIC / "answers.js").read_text()}
    context = browser.new_context()
    page = context.new_page()
    page.goto(wire.url)
    page.evaluate("async () => { window.answers = await import('/ifllm/answers.js'); }")
    yield page
    context.close()


def show(page: Any, text: str) -> None:
    """Render the answer anew."""
    html = f'<div id="answer-1"><div class="text">{text}</div><button class="up">+</button><i><b>-</b></i></div>'
    page.evaluate("html => { document.body.innerHTML = html; }", html)


def call(page: Any, name: str, *values: Any) -> Any:
    return page.evaluate("([name, values]) => answers[name](...values)", [name, values])


def mark(page: Any) -> str | None:
    return page.evaluate("() => document.querySelector('.text').dataset.ifllmResponse ?? null")


def named(wire: WireServer, page: Any) -> list[list[Any]]:
    page.evaluate("ifllm.flush()")
    return [event[1:3] for event in wire.events() if event[2] and event[1].startswith("stream")]


def test_an_answer_is_marked_when_it_is_there_and_whenever_it_is_rendered_anew(page: Any, wire: WireServer) -> None:
    call(page, "begin", ANSWER, EMPTY)
    show(page, "")
    assert mark(page) is None  # nobody has agreed
    call(page, "record", "PERSON", "2026-11-29")
    show(page, "The")
    assert mark(page) == EMPTY
    for end in range(3, len(TEXT)):
        show(page, TEXT[:end])
        assert mark(page) == EMPTY
    show(page, TEXT)
    call(page, "complete", ANSWER, WHOLE)
    call(page, "begin", ANSWER, EMPTY)  # as from a server that says all it knows again
    call(page, "complete", ANSWER, WHOLE)
    show(page, TEXT)
    assert mark(page) == WHOLE
    assert named(wire, page) == [["stream_start", EMPTY], ["stream_end", WHOLE]]


def test_an_answer_that_was_not_seen_to_begin_has_no_stream(page: Any, wire: WireServer) -> None:
    call(page, "record", "PERSON", "2026-11-29")
    show(page, TEXT)
    call(page, "complete", ANSWER, WHOLE)
    assert mark(page) == WHOLE
    assert named(wire, page) == []


@pytest.mark.parametrize(
    ("shown", "grew"),
    [
        ([TEXT[:50], TEXT[:90]], True),
        ([TEXT[:50] + "**bold", TEXT[:90]], True),  # Markdown that is not closed yet
        ([TEXT.replace(" ", "  ")[:90]], False),
        (["Thinking… " + TEXT], False),
    ],
)
def test_whether_a_text_is_what_grew(page: Any, shown: list[str], grew: bool) -> None:
    call(page, "record", "PERSON", "2026-11-29")
    call(page, "begin", ANSWER, EMPTY)
    for text in shown:
        show(page, text)
        page.wait_for_timeout(300)
    show(page, TEXT)
    assert call(page, "textOf", ANSWER) == {"text": TEXT, "grew": grew}


def test_the_text_is_waited_for_while_it_grows(page: Any) -> None:
    assert call(page, "textOf", ANSWER) == {"text": None, "grew": True}
    show(page, "")
    # It grows by the page's own clock, which a busy machine holds up as well.
    grow = """(text) => {
      const element = document.querySelector('#answer-1 .text');
      let end = 0;
      const timer = setInterval(() => {
        element.textContent = text.slice(0, (end += 10));
        if (end >= text.length) clearInterval(timer);
      }, 100);
      window.waited = answers.textOf('#answer-1 .text');
    }"""
    page.evaluate(grow, TEXT)
    assert page.evaluate("waited")["text"] == TEXT


def test_a_click_on_a_thumb(page: Any, wire: WireServer) -> None:
    show(page, TEXT)
    call(page, "record", "PERSON", "2026-11-29")
    call(page, "thumbs", ANSWER, "#answer-1 .up", "#answer-1 i")
    page.click(".up")  # of an answer that is not recorded
    call(page, "complete", ANSWER, WHOLE)
    page.click(".up")
    page.evaluate("document.querySelector('i').addEventListener('click', (event) => event.stopPropagation())")
    page.click("b")
    page.evaluate("ifllm.flush()")
    assert [event[2:] for event in wire.events() if event[1] == "thumb"] == [[WHOLE, 1], [WHOLE, -1]]


def test_who_withdraws_is_recorded_no_more_until_they_agree_again(page: Any, wire: WireServer) -> None:
    call(page, "withdraw")  # of nobody
    show(page, TEXT)
    call(page, "record", "PERSON", "2026-11-29")
    call(page, "complete", ANSWER, WHOLE)
    call(page, "withdraw")
    assert mark(page) is None
    assert [(request["method"], request["path"]) for request in wire.log][-1] == ("DELETE", ME)
    show(page, TEXT)
    assert mark(page) is None
    call(page, "record", "ANOTHER", "2026-11-29")
    assert mark(page) is None  # its token is void
    call(page, "complete", ANSWER, token(TEXT, "2"))
    assert mark(page) == token(TEXT, "2")


def test_the_box_in_which_one_agrees_and_withdraws(page: Any, wire: WireServer) -> None:
    made = """async () => {
      window.answers = await import('/ifllm/answers.js');
      window.told = [];
      document.body.append(answers.consentBox("May we?", () => told.push(answers.reader())));
    }"""
    page.evaluate(made)
    agree, forget = (page.get_by_role("button", name=name) for name in ("Record how I read", "Stop and delete"))
    status = page.get_by_role("status")
    assert (agree.is_visible(), forget.is_visible(), status.text_content()) == (True, False, "Not recording.")
    agree.click()
    (reader,) = page.evaluate("told")
    assert len(reader) == 32
    assert call(page, "reader") == reader
    agree.click()  # the server has not answered
    assert page.evaluate("told") == [reader, reader]
    forget.click()
    status.get_by_text("It is not deleted yet.").wait_for()
    call(page, "record", "PERSON", "2026-11-29")
    assert page.evaluate("ifllm.state") == "off"  # who has pressed it is not recorded, deleted or not
    agree.click()
    call(page, "record", "PERSON", "2026-11-29")
    assert (agree.is_visible(), forget.is_visible(), status.text_content()) == (False, True, "Recording.")

    page.reload()
    page.evaluate(made)
    assert call(page, "reader") == reader
    assert status.text_content() == "Not recording."  # until the server says who that is
    call(page, "record", "PERSON", "2026-11-29")
    wire.answers.append(401)
    forget.click()
    status.get_by_text("It is not deleted yet.").wait_for()
    page.reload()
    page.evaluate(made)
    call(page, "record", "PERSON", "2026-11-29")
    assert page.evaluate("ifllm.state") == "off"
    assert call(page, "reader") == reader
    forget.click()
    status.get_by_text("Everything is deleted.").wait_for()
    assert page.evaluate("told") == [""]
    assert (agree.is_visible(), forget.is_visible()) == (True, False)
    assert page.evaluate("localStorage.length") == 0
    agree.click()
    assert page.evaluate("told")[1] not in ("", reader)
