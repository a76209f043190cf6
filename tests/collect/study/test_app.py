"""The study app in a real Chromium: from consent to a preference row, withdrawal, and text that would be a script."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from ifllm_hub.collect.export.dataset import export_dataset
from ifllm_hub.collect.pseudonyms import Pseudonyms
from ifllm_hub.collect.settings import STORE_FILE, Secrets
from ifllm_hub.collect.store.store import Store
from ifllm_hub.collect.store.tables import NOTES
from ifllm_hub.collect.study.state import PROTOCOLS
from ifllm_hub.dataset.load import load_config
from tests.collect.store.processes import free_port, start_server

pytestmark = pytest.mark.slow
HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=2</script>${window.hit=3}{{window.hit=4}}\'"&amp;'

# In an interpreter that knows nothing of the collector: load_dataset -> features -> the shipped forest -> TRL's rows.
READ = """
import json, sys
from datasets import load_dataset
from ifllm_hub.reward.functions import BehaviorReward
configs = ("pairwise", "features", "preferences_explicit")
rows = {name: [row for part in load_dataset(sys.argv[1], name).values() for row in part] for name in configs}
trl = load_dataset("json", data_files=sys.argv[1] + "/trl/preferences_explicit.jsonl", split="train").to_list()
columns = {name: [row[name] for row in rows["features"]] for name in rows["features"][0]}
columns |= {name: [row[name] for row in rows["pairwise"]] for name in rows["pairwise"][0]}
reward = BehaviorReward(scale="probability")
rows["rewards"] = [
    reward(prompts=[""] * len(rows["pairwise"]), completions=columns[f"response_{side}"], **columns)
    for side in ("left", "right")
]
print(json.dumps({**rows, "trl": trl}, default=str))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a study with two scripted models, and its folder."""
    folder, port = tmp_path_factory.mktemp("study"), free_port()
    process = start_server(folder, port, module="tests.collect.study.studied", patience=300)
    yield f"http://127.0.0.1:{port}", folder
    process.kill()
    process.wait()


@pytest.fixture
def open_page(browser: Any, site: tuple[str, Path]) -> Iterator[Callable[[], Any]]:
    """A function that opens the study in a window of its own; `page.asked` has the requests it made."""
    contexts = []

    def open_page() -> Any:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.asked = []
        page.on("request", lambda request: page.asked.append((request.method, request.url)))
        page.goto(site[0])
        page.locator("#agree").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()


def take_part(page: Any) -> None:
    page.get_by_role("checkbox").check()
    page.locator("#agree").click()
    page.locator("#start").click()
    page.locator("#query textarea").wait_for()


def ask(page: Any, query: str) -> None:
    """Ask, and read the answers: the mouse goes over the first lines of both, more slowly over the left one's."""
    page.locator("#query textarea").fill(query)
    page.locator("#ask").click()
    # Until then there are the answers and the ratings of the question before.
    page.locator("#answers p.ifllm-query", has_text=query).wait_for()
    page.locator("[data-ifllm-complete]").nth(1).wait_for()
    page.locator("#ratings").wait_for(state="visible")
    for place, steps in ((0, 50), (1, 25)):
        box = page.locator("[data-ifllm-complete]").nth(place).bounding_box()
        for step in range(steps):
            page.mouse.move(box["x"] + 20 + step * 6, box["y"] + 30)
            # By the page's own clock, which a busy machine holds up.
            page.evaluate("new Promise((then) => setTimeout(then, 80))")


def rate(page: Any, left: int, right: int, preference: int) -> None:
    for name, place in (("left", left - 1), ("right", right - 1), ("preference", preference)):
        page.locator(f"#{name} label").nth(place).click()


def test_from_consent_to_a_preference_row(open_page: Callable[[], Any], site: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = site
    page = open_page()
    page.mouse.move(300, 200)
    page.locator("#agree").click()
    page.get_by_text("Please tick the box").wait_for()
    # Before consent nothing of the collector is even loaded; and never anything from another host.
    assert not [asked for asked in page.asked if "/ifllm/" in asked[1]]
    take_part(page)
    page.locator("#done").click()
    page.get_by_text("2 more questions").wait_for()
    ask(page, "Why do volcanoes erupt?")
    page.locator("#query textarea").fill("And then?")
    page.locator("#ask").click()
    page.get_by_text("Please rate each answer").wait_for()
    rate(page, 4, 2, 0)
    ask(page, "Where are most of them?")
    assert page.locator(".ifllm-history").inner_text() == "1 earlier question"
    rate(page, 3, 5, 1)
    page.locator("#done").click()
    page.locator("#summary textarea").fill("A secret summary.")
    page.locator("#send").click()
    page.get_by_text("Thank you!").wait_for()
    assert re.fullmatch("study-[0-9a-f]{32}", page.locator("#key textarea, #key input").input_value())
    page.wait_for_timeout(2_000)
    assert {asked[1].split("/ifllm/")[0] for asked in page.asked if "/ifllm/" in asked[1]} == {url}
    assert all(asked[1].startswith((url, "data:", "blob:")) for asked in page.asked)

    out = tmp_path / "out"
    store = Store(f"sqlite:///{folder / STORE_FILE}")
    manifest = export_dataset(store, out, Pseudonyms(Secrets.load(folder).pseudonym))
    store.close()
    assert (manifest["people"], manifest["questions"]) == (1, {"pairwise": 2, "pointwise": 0})
    assert manifest["ticks"]["kept"] == manifest["ticks"]["received"] > 100
    content = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"secret summary" not in content
    read = subprocess.run([sys.executable, "-c", READ, str(out)], capture_output=True, text=True, check=True)
    rows = json.loads(read.stdout)
    pairs = rows["pairwise"]
    assert [pair["query"] for pair in pairs] == ["Why do volcanoes erupt?", "Where are most of them?"]
    assert [(pair["rating_left"], pair["rating_right"], pair["preference"]) for pair in pairs] == [
        (4, 2, "left"),
        (3, 5, "right"),
    ]
    assert {pairs[0]["model_left"], pairs[0]["model_right"]} == {"heron", "otter"}
    assert pairs[0]["model_left"] == pairs[1]["model_left"]
    for pair, features in zip(pairs, rows["features"], strict=True):
        # 50 and 25 steps of 80 ms, on a machine that may be slow but not quicker.
        assert features["mouse_dwell_left"] > features["mouse_dwell_right"] > 1_500
        assert features["question_id"] == pair["question_id"]
    left, right = rows["rewards"]
    assert [a + b for a, b in zip(left, right, strict=True)] == pytest.approx([1, 1])
    first = next(row for row in rows["trl"] if row["prompt"][0]["content"] == "Why do volcanoes erupt?")
    assert first["chosen"][-1]["content"] == pairs[0]["response_left"]
    assert first["rejected"][-1]["content"] == pairs[0]["response_right"]
    assert pairs[0]["response_left"].startswith("You asked: Why do volcanoes erupt?")
    signals = load_config(out, "signals")
    # Chosen after both answers were read, and before the next question was typed.
    assert (signals["decision_ms"] > 4_000).all()
    assert signals["followed_up"].to_list() == [True, False]
    assert signals["first_key_ms"][0] > 4_000
    times = load_config(out, "trajectories")["t"].explode()
    assert times.min() >= 0


@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_every_protocol_can_be_finished(browser: Any, tmp_path: Path, protocol: str) -> None:
    """From consent to thanks, by its own rules; test_study_blocks.py does it without a browser."""
    port = free_port()
    process = start_server(tmp_path, port, protocol, module="tests.collect.study.studied", patience=300)
    store, page = Store(f"sqlite:///{tmp_path / STORE_FILE}"), browser.new_page()
    page.set_default_timeout(60_000)
    try:
        page.goto(f"http://127.0.0.1:{port}")
        take_part(page)
        for number in range(PROTOCOLS[protocol].least_queries):
            query = f"Question {number}?"
            page.locator("#query textarea").fill(query)
            page.locator("#ask").click()
            page.locator("#answers p.ifllm-query", has_text=query).wait_for()
            page.locator("[data-ifllm-complete]").first.wait_for()
            page.locator("#ratings").wait_for(state="visible")
            for name in ("left", "right", "preference", "compared"):
                if page.locator(f"#{name}").is_visible():
                    page.locator(f"#{name} label").first.click()
        page.locator("#done").click()
        page.locator("#send").wait_for()
        if PROTOCOLS[protocol].summary:
            page.locator("#summary textarea").fill("Something.")
        page.locator("#send").click()
        page.get_by_text("Thank you!").wait_for()
        with store.reading() as connection:
            assert "finished" in connection.scalars(select(NOTES.c.name)).all()
    finally:
        page.close()
        store.close()
        process.kill()
        process.wait()


def test_a_script_is_shown_and_not_run_and_who_withdraws_is_gone(
    open_page: Callable[[], Any], site: tuple[str, Path]
) -> None:
    page = open_page()
    take_part(page)
    ask(page, HOSTILE)
    assert page.locator(".ifllm-query").first.inner_text() == HOSTILE
    assert HOSTILE in page.locator("[data-ifllm-complete]").first.inner_text()
    rate(page, 1, 1, 0)
    ask(page, HOSTILE + " again")
    rate(page, 1, 1, 0)
    page.locator("#done").click()
    page.locator("#summary textarea").fill(HOSTILE)
    store = Store(f"sqlite:///{site[1] / STORE_FILE}")
    before = store.counts()
    page.get_by_text("Stop and delete").click()
    page.locator("#withdraw").click()
    page.get_by_text("Everything that was recorded of you is deleted").wait_for()
    page.wait_for_timeout(1_000)
    after = store.counts()
    store.close()
    assert before["responses"] - after["responses"] == 4
    assert before["batches"] > after["batches"]
    assert before["ratings"] - after["ratings"] == 4
    # The page's own token had it deleted, too; nothing was sent afterwards.
    last = [asked for asked in page.asked if "/ifllm/v1" in asked[1]][-1]
    assert last[0] == "DELETE"
    assert page.evaluate("window.hit") is None


def test_who_withdraws_after_a_restart_without_a_tracker_is_gone(browser: Any, tmp_path: Path) -> None:
    port = free_port()
    start = partial(start_server, tmp_path, port, "pairwise", module="tests.collect.study.studied", patience=300)
    process = start()
    store, context = Store(f"sqlite:///{tmp_path / STORE_FILE}"), browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.route("**/ifllm.js", lambda route: route.abort("blockedbyclient"))
    try:
        page.goto(f"http://127.0.0.1:{port}")
        take_part(page)
        page.locator("#query textarea").fill("Why?")
        page.locator("#ask").click()
        page.locator("[data-ifllm-complete]").nth(1).wait_for()
        page.locator("#ratings").wait_for(state="visible")
        assert store.counts()["responses"] == 2
        process.kill()
        process.wait()
        process = start()
        page.locator("#done").click()
        page.get_by_text("start again").wait_for()
        page.get_by_text("Stop and delete", exact=True).click()
        page.locator("#withdraw").click()
        page.get_by_text("Everything that was recorded of you is deleted").wait_for()
        with store.reading() as connection:
            assert connection.execute(NOTES.select()).all() == []
        assert store.counts()["responses"] == 0
    finally:
        context.close()
        store.close()
        process.kill()
        process.wait()


def test_a_code_deletes_later(open_page: Callable[[], Any]) -> None:
    page = open_page()
    page.get_by_text("Delete what was recorded earlier").click()
    page.locator("#code input, #code textarea").fill(HOSTILE)
    page.locator("#forget").click()
    page.get_by_text("This is not a code").wait_for()
    page.locator("#code input, #code textarea").fill("study-" + "0" * 32)
    page.locator("#forget").click()
    page.get_by_text("it is deleted now").wait_for()
    assert page.evaluate("window.hit") is None
