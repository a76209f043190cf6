"""A recorded Gradio `ChatInterface` in a real Chromium."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ifllm_hub.collect.settings import STORE_FILE
from ifllm_hub.collect.store import Store
from ifllm_hub.collect.tables import RESPONSES
from tests.collect.processes import free_port, start_server

pytestmark = pytest.mark.slow


def test_a_chat_interface(browser: Any, tmp_path: Path) -> None:
    port = free_port()
    process = start_server(tmp_path, port, module="tests.collect.chatted", patience=300)
    store = Store(f"sqlite:///{tmp_path / STORE_FILE}")
    page = browser.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    def say(message: str) -> None:
        page.locator("textarea:visible").fill(message)
        page.locator("textarea:visible").press("Enter")
        page.get_by_text(f"You said {message}; before").wait_for()

    try:
        page.goto(f"http://127.0.0.1:{port}")
        say("one")  # as ChatInterface shows it, Markdown and all
        page.wait_for_timeout(1_000)
        assert store.counts()["people"] == 0
        assert not [url for url in asked if "/ifllm/" in url]
        assert all(url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:")) for url in asked)
        page.get_by_text("Additional Inputs").click()
        page.get_by_role("checkbox").check()
        say("<img src=x onerror=window.hit=1>")
        complete = page.locator("[data-ifllm-complete]")
        complete.last.wait_for()
        say("three")
        page.locator("[data-ifllm-complete] >> nth=1").wait_for()
        assert page.evaluate("window.hit") is None
        with store.reading() as connection:
            stored = {row.query: row.text for row in connection.execute(select(RESPONSES))}
        assert set(stored) == {"<img src=x onerror=window.hit=1>", "three"}
        # The model's history has the text of what was shown as a component.
        assert stored["<img src=x onerror=window.hit=1>"] in stored["three"]
        assert complete.last.text_content() == stored["three"]
        box = complete.last.bounding_box()
        for step in range(30):
            page.mouse.move(box["x"] + 20 + 5 * step, box["y"] + 25)
            page.wait_for_timeout(80)
        page.wait_for_timeout(5_500)
        assert store.counts()["batches"] > 0
        page.locator("[data-ifllm-withdraw]").last.click()
        page.get_by_text("Deleted", exact=True).wait_for()
        assert (store.counts()["batches"], store.counts()["responses"]) == (0, 0)
    finally:
        page.close()
        store.close()
        process.kill()
        process.wait()
