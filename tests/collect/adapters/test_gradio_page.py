"""A recorded Gradio `ChatInterface` in a real Chromium."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ifllm_hub.collect.settings import STORE_FILE
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import RESPONSES
from tests.collect.store.processes import free_port, start_server


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "proxied"),
    [("/lab/chat", ""), ("", "/lab")],
    ids=["sub-path", "proxy"],
)
def test_a_chat_under_another_path(browser: Any, tmp_path: Path, path: str, proxied: str) -> None:
    """In an app of somebody's own, and behind a proxy that takes a prefix off."""
    port = free_port()
    process = start_server(tmp_path, port, path, proxied, module="tests.collect.adapters.chatted", patience=300)
    store = Store(f"sqlite:///{tmp_path / STORE_FILE}")
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    try:
        root = f"http://127.0.0.1:{port}{proxied}"
        page.goto(f"{root}{path}/")
        page.locator(".ifllm-box").get_by_role("checkbox").check()
        page.locator("textarea:visible").first.fill("Why?")
        page.locator("textarea:visible").first.press("Enter")
        answer = page.locator("[data-ifllm-complete]")
        answer.wait_for()
        page.get_by_role("button", name="Stop", exact=True).wait_for(state="hidden")
        answer.scroll_into_view_if_needed()
        place = answer.bounding_box()
        with page.expect_response("**/v1/batches", timeout=30_000) as taken:
            for step in range(30):
                page.mouse.move(place["x"] + 20 + 5 * step, place["y"] + place["height"] - 25)
                page.wait_for_timeout(80)
        assert taken.value.status == 202
        page.locator(".ifllm-box").get_by_role("button", name="Stop and delete everything").click()
        page.get_by_text("Everything that was recorded of you is deleted").wait_for()
        assert (store.counts()["batches"], store.counts()["responses"]) == (0, 0)
        ours = {url.removeprefix(root) for url in asked if "/ifllm/" in url}
        assert ours == {"/ifllm/ifllm.js", "/ifllm/v1/batches", "/ifllm/v1/people/me"}
    finally:
        context.close()
        store.close()
        process.kill()
        process.wait()


@pytest.mark.slow
def test_a_chat_interface(browser: Any, tmp_path: Path) -> None:
    port = free_port()
    process = start_server(tmp_path, port, module="tests.collect.adapters.chatted", patience=300)
    store = Store(f"sqlite:///{tmp_path / STORE_FILE}")
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    box, complete = page.locator(".ifllm-box"), page.locator("[data-ifllm-complete]")

    def say(message: str) -> None:
        page.locator("textarea:visible").first.fill(message)
        page.locator("textarea:visible").first.press("Enter")
        page.get_by_text(f"You said {message}; before").last.wait_for()
        page.get_by_role("button", name="Stop", exact=True).wait_for(state="hidden")

    def queries() -> list[str]:
        with store.reading() as connection:
            return list(connection.scalars(select(RESPONSES.c.query).order_by(RESPONSES.c.registered_at)))

    def read() -> int:
        """Read the last answer; how many batches are stored then."""
        complete.last.scroll_into_view_if_needed()
        place = complete.last.bounding_box()
        for step in range(30):
            page.mouse.move(place["x"] + 20 + 5 * step, place["y"] + place["height"] - 25)
            page.wait_for_timeout(80)
        page.wait_for_timeout(5_500)
        return store.counts()["batches"]

    def nothing_is_stored() -> None:
        counts = store.counts()
        assert (counts["batches"], counts["responses"]) == (0, 0)

    try:
        page.goto(f"http://127.0.0.1:{port}")
        say("one")  # as ChatInterface shows it
        page.wait_for_timeout(1_000)
        assert store.counts()["people"] == 0
        assert not [url for url in asked if "/ifllm/" in url]
        assert all(url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:")) for url in asked)
        assert page.evaluate("localStorage.getItem('ifllm-people:/')") is None
        box.get_by_role("checkbox").check()
        say("<img src=x onerror=window.hit=1>")
        complete.last.wait_for()
        say("three")
        page.locator("[data-ifllm-complete] >> nth=1").wait_for()
        assert page.evaluate("window.hit") is None
        with store.reading() as connection:
            texts = {row.query: row.text for row in connection.execute(select(RESPONSES))}
        assert set(texts) == {"<img src=x onerror=window.hit=1>", "three"}
        assert complete.last.text_content() == texts["three"]
        assert complete.last.locator("strong").last.inner_text() == "plain"
        assert read() > 0
        # Unticking stops at once, and offers to delete.
        box.get_by_role("checkbox").uncheck()
        box.get_by_text("Recording has stopped").wait_for()
        page.wait_for_timeout(500)
        before = store.counts()["batches"]
        assert read() == before
        say("four")
        assert "four" not in queries()
        # Ticking again goes on as the same person; deleting ends that, and everything is gone.
        box.get_by_role("checkbox").check()
        say("five")
        assert read() > before
        complete.last.locator("xpath=..").get_by_role("button").click()
        box.get_by_text("Everything that was recorded of you is deleted").wait_for()
        assert not box.get_by_role("checkbox").is_checked()
        nothing_is_stored()
        say("six")
        nothing_is_stored()
        # Whoever agrees anew is somebody new, and the buttons work again.
        box.get_by_role("checkbox").check()
        say("seven")
        assert read() > 0
        page.locator("[data-ifllm-withdraw]").first.click()
        box.get_by_text("Everything that was recorded of you is deleted").wait_for()
        nothing_is_stored()
        # After a reload nobody has agreed, and what there is can be deleted.
        box.get_by_role("checkbox").check()
        say("eight")
        assert read() > 0
        page.reload()
        box.get_by_role("button").wait_for()
        assert not box.get_by_role("checkbox").is_checked()
        box.get_by_role("button", name="Stop and delete everything").click()
        box.get_by_text("Everything that was recorded of you is deleted").wait_for()
        nothing_is_stored()
        assert page.evaluate("localStorage.getItem('ifllm-people:/')") is None
    finally:
        context.close()
        store.close()
        process.kill()
        process.wait()
