"""docs/chat-products.md: its files are the examples, and its chats record, as its reader runs them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.collect.adapters.product import Stored, key_of, on_most, rest_on
from tests.docs.place import APP, COLLECTOR, STREAMLIT, Place
from tests.docs.snippets import fences
from tests.docs.test_collector_page import parsed
from tests.waiting import until

ROOT = Path(__file__).parents[2]
BLOCKS = fences((ROOT / "docs/chat-products.md").read_text(encoding="utf-8"))
FILES = {
    "chat.py": "examples/chainlit/chat.py",
    "public/ifllm.js": "examples/chainlit/public/ifllm.js",
    "streamlit_chat.py": "examples/streamlit_chat.py",
}
RUN = {"collector", "chainlit", "streamlit"}


def test_every_block_is_an_example_or_run() -> None:
    assert set(BLOCKS) == {*FILES, *RUN, "install"}  # of "install", see test_collector_page.py
    for name, path in FILES.items():
        assert BLOCKS[name].code == (ROOT / path).read_text(encoding="utf-8")


def test_the_collector_takes_its_command() -> None:
    program, *words = BLOCKS["collector"].code.split()
    assert program == "ifllm"
    parsed(words)


@dataclass(frozen=True)
class Product:
    """A chat of the page: its block of commands, its files, its port, the field for messages, a shown answer."""

    name: str
    files: tuple[str, ...]
    port: str
    field: str
    answers: str


PRODUCTS = [
    Product("chainlit", ("chat.py", "public/ifllm.js"), APP, "#chat-input", ".ai-message .message-content"),
    Product(
        "streamlit",
        ("streamlit_chat.py",),
        STREAMLIT,
        "[data-testid=stChatInputTextArea]",
        "[class*=st-key-answer-]",
    ),
]


@pytest.fixture(params=PRODUCTS, ids=lambda product: product.name)
def product(request: pytest.FixtureRequest) -> Product:
    return request.param


@pytest.fixture
def place(product: Product, tmp_path: Path) -> Iterator[Place]:
    """With collector and chat running, in an environment of its own; `IFLLM_PRODUCTS` names a folder to keep it in."""
    environment = Path(os.environ.get("IFLLM_PRODUCTS") or tmp_path) / f"{product.name}-env"
    if not environment.exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    (tmp_path / "chat").mkdir()
    place = Place(tmp_path / "chat", BLOCKS, environment / "bin")
    try:
        place.write(*product.files)
        chat = place.folder / product.files[0]
        chat.write_text(chat.read_text().replace("sleep(0.05)", "sleep(0.2)"))  # for a machine that is busy
        place.start("collector", place.url(COLLECTOR, "/ifllm/v1/health"))
        place.start(product.name, place.url(product.port), 1_200)
        yield place
    finally:
        place.stop()


@pytest.mark.slow
def test_a_chat_records_who_agreed(browser: Any, place: Place, product: Product) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 2000})  # so that all answers are in it
    page = context.new_page()
    page.set_default_timeout(60_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    stored = Stored(place.folder / "collected")
    agree, forget = (page.get_by_role("button", name=name) for name in ("Record how I read", "Stop and delete"))
    status, answers = page.get_by_role("status"), page.locator(product.answers)

    def wait(condition: Any) -> None:
        until(condition, 60, lambda: page.wait_for_timeout(20))

    def ask(message: str, number: int) -> Any:
        """Say it, and return the element of the answer, the number-th of the page."""
        page.locator(product.field).click()
        page.keyboard.type(message)
        page.keyboard.press("Enter")
        answer = answers.nth(number)
        answer.get_by_text(message).wait_for()
        return answer

    def token(answer: Any) -> str | None:
        return answer.get_attribute("data-ifllm-response")

    def wait_for_end(answer: Any) -> None:
        wait(lambda: answer.text_content().count("And so on.") == 20)

    def read(answer: Any) -> None:
        """From the first word on; what is stored must be what the page shows, by character."""
        wait(lambda: token(answer))
        first = token(answer)
        assert answer.text_content().count("And so on.") < 20
        rest_on(page, answer, "First")
        wait(lambda: token(answer) != first)
        final, shown = token(answer), answer.text_content()
        rest_on(page, answer, "sun")
        page.evaluate("ifllm.flush()")
        assert shown.index("First") in on_most(stored, first)
        assert shown.index("sun") in on_most(stored, final)
        assert shown in [text for *_, text in stored.answers()]
        stream = {("stream_start", key_of(first)), ("stream_end", key_of(final))}
        assert stream <= {(event[1], event[2]) for event in stored.events()}

    def forget_all() -> None:
        forget.click()
        status.get_by_text("Everything is deleted.").wait_for()
        assert stored.answers() == stored.ticks() == []

    try:
        page.goto(place.url(product.port))
        agree.wait_for()
        wait_for_end(ask("nobody", 0))
        assert stored.answers() == []
        agree.click()
        status.get_by_text("Recording.", exact=True).wait_for()
        read(ask("rocks", 1))
        # The next question, before the page has reported the text of the answer, ends neither.
        wait_for_end(ask("one", 2))
        wait_for_end(ask("two", 3))
        wait(lambda: len([text for *_, text in stored.answers() if text]) == 3)
        assert not [question for question, *_ in stored.answers() if question.endswith(".complete")]
        page.reload()
        status.get_by_text("Recording.", exact=True).wait_for()
        read(ask("stars", 0))
        forget_all()
        wait_for_end(ask("nobody", 1))
        page.wait_for_timeout(2_000)
        assert stored.answers() == []
        assert page.locator("[data-ifllm-response]").count() == 0
        agree.click()
        status.get_by_text("Recording.", exact=True).wait_for()
        read(ask("planets", 2))
        forget_all()
        assert errors == []
    finally:
        context.close()
        stored.close()
