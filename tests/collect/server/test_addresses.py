"""A study is recorded under whichever address it is opened, in a real Chromium."""

from pathlib import Path
from typing import Any

import pytest

from ifllm_hub.collect.settings import STORE_FILE
from ifllm_hub.collect.store.store import Store
from tests.collect.store.processes import free_port, start_server

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("proxied", "addresses"),
    [
        ((), ("http://127.0.0.1:{port}", "http://localhost:{port}", "http://127.0.0.2:{port}/")),
        (("proxied",), ("http://127.0.0.1:{port}/lab/study/",)),
    ],
    ids=["names of the machine", "behind a proxy"],
)
def test_a_study_under_every_address(
    browser: Any, tmp_path: Path, proxied: tuple[str, ...], addresses: tuple[str, ...]
) -> None:
    port = free_port()
    process = start_server(tmp_path, port, *proxied, module="tests.collect.proxied", patience=300)
    store = Store(f"sqlite:///{tmp_path / STORE_FILE}")
    try:
        for number, address in enumerate(addresses, start=1):
            read(browser, address.format(port=port))
            assert store.counts()["sessions"] == number, address
    finally:
        store.close()
        process.kill()
        process.wait()


def read(browser: Any, address: str) -> None:
    """Take part, ask, and go over the answer until something of it was taken."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.get_by_role("checkbox").check()
    page.locator("#agree").click()
    page.locator("#start").click()
    page.locator("#query textarea").fill("Why?")
    page.locator("#ask").click()
    answer = page.locator("[data-ifllm-complete]")
    answer.wait_for()
    box = answer.bounding_box()
    with page.expect_response("**/v1/batches", timeout=30_000) as taken:
        for step in range(20):
            page.mouse.move(box["x"] + 20 + step * 6, box["y"] + 30)
            page.evaluate("new Promise((then) => setTimeout(then, 80))")
    assert taken.value.status == 202
    page.close()
