"""The study's pages without a browser: what each handler is given is what a page gives, for every protocol."""

import asyncio
import random
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio.route_utils import SessionState
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.store.tables import CONSENTS, NOTES, PEOPLE
from ifllm_hub.collect.study import pages as study_pages
from ifllm_hub.collect.study.blocks import StudyBlocks
from ifllm_hub.collect.study.flow import Study
from ifllm_hub.collect.study.models import EchoModel
from ifllm_hub.collect.study.settings import StudySettings
from ifllm_hub.collect.study.state import PROTOCOLS


class Page:
    """A page of a study: the components that are in it, with their values, and events by the name of their handler.

    A component that is not visible, or is in a column that is not, is not in the page and sends None.
    """

    def __init__(self, blocks: gr.Blocks):
        self.blocks, self.session = blocks, SessionState(blocks)
        self.values: dict[int, Any] = {}
        self.visible: dict[int, bool] = {}
        for number, component in blocks.blocks.items():
            self.values[number] = getattr(component, "value", None)
            self.visible[number] = bool(getattr(component, "visible", True))
        self.functions = {str(each.name): each for each in blocks.fns.values() if each.fn}

    def component(self, name: str) -> Any:
        """By the id of its element, or its label."""
        return next(
            each
            for each in self.blocks.blocks.values()
            if name in (getattr(each, "elem_id", None), getattr(each, "label", None))
        )

    def fill(self, name: str, value: Any) -> None:
        self.values[self.component(name)._id] = value

    def value(self, name: str) -> Any:
        return self.values[self.component(name)._id]

    def lose_the_server(self) -> None:
        """The server is started again: it knows nothing of the page, which is as it was."""
        self.session = SessionState(self.blocks)

    def shows(self, component: Any) -> bool:
        while component is not None:
            if not self.visible.get(component._id, True):
                return False
            component = component.parent
        return True

    def text(self) -> str:
        """All that is visible of the page's texts."""
        shown = [each for each in self.blocks.blocks.values() if isinstance(each, gr.HTML) and self.shows(each)]
        return "\n".join(str(self.values[each._id]) for each in shown)

    async def send(self, name: str) -> None:
        function, iterator = self.functions[name], None
        inputs = [
            None if isinstance(each, gr.State) or not self.shows(each) else self.values[each._id]
            for each in function.inputs
        ]
        request = gr.Request(client={"host": "192.0.2.1", "port": 1}, headers={}, session_hash="page")
        while True:
            done = await self.blocks.process_api(
                function, inputs, state=self.session, request=request, iterator=iterator
            )
            # The last step of a generator has nothing to say.
            if done["is_generating"] or iterator is None:
                for component, change in zip(function.outputs, done["data"], strict=True):
                    self._change(component, change)
            iterator = done["iterator"]
            if not done["is_generating"]:
                return

    def _change(self, component: Any, change: Any) -> None:
        if isinstance(change, dict) and change.get("__type__") == "update":
            self.visible[component._id] = bool(change.get("visible", self.visible[component._id]))
            if "value" not in change:
                return
            change = change["value"]
        if not isinstance(component, gr.State):
            self.values[component._id] = change


Open = Callable[..., Coroutine[Any, Any, tuple[Page, Study]]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Open]:
    """A function that opens a page of a study with a protocol and one scripted model, whose least time is nothing."""
    collector = Collector(Settings(tmp_path / "collected"))

    async def make(protocol: str, **settings: Any) -> tuple[Page, Study]:
        chosen = StudySettings(collector.settings, contact="Ada", protocol=protocol, **settings)
        rules = replace(PROTOCOLS[protocol], least_seconds=0)
        study = Study(collector, [EchoModel("echo", pause=0)], rules, chosen.consent_version, random.Random(1))
        return Page(StudyBlocks(chosen, study).blocks), study

    yield make
    collector.close()


async def take_part(page: Page) -> None:
    await page.send("_on_load")
    page.fill("I am at least 18, have read this, and agree to be recorded", True)
    await page.send("_on_agree")
    await page.send("_on_start")


async def question(page: Page, text: str) -> None:
    page.fill("query", text)
    await page.send("_on_ask")
    for name, value in (("left", 4), ("right", 2), ("preference", "left"), ("compared", True)):
        page.fill(name, value)


@pytest.mark.parametrize("questionnaire", [True, False])
@pytest.mark.parametrize("protocol", list(PROTOCOLS))
def test_every_protocol_can_be_finished(make: Open, protocol: str, questionnaire: bool) -> None:
    async def run() -> tuple[Page, Study]:
        page, study = await make(protocol, questionnaire=questionnaire)
        await take_part(page)
        for number in range(PROTOCOLS[protocol].least_queries):
            await question(page, f"Question {number}?")
        await page.send("_on_done")
        page.fill("summary", "Something.")
        await page.send("_on_send")
        return page, study

    page, study = asyncio.run(run())
    assert "Thank you!" in page.text()
    with study.collector.store.reading() as connection:
        notes = {row.name: row.value for row in connection.execute(NOTES.select())}
    assert notes["finished"] == "yes"
    assert notes["summary"] == ("Something." if PROTOCOLS[protocol].summary else "")


def test_a_field_that_hands_over_nothing_is_an_empty_one(make: Open) -> None:
    async def run() -> None:
        page, _ = await make("pointwise")
        await page.send("_on_load")

        async def told(handler: str, field: str) -> str:
            page.fill(field, None)
            await page.send(handler)
            return page.text()

        assert "This is not a code" in await told("_on_forget", "code")
        page.fill("I am at least 18, have read this, and agree to be recorded", True)
        await page.send("_on_agree")
        assert "choose a topic" in await told("_on_start", "topic")
        page.fill("topic", "Jazz")
        await page.send("_on_start")
        assert "type a question" in await told("_on_ask", "query")

    asyncio.run(run())


def test_the_code_is_in_the_page_from_the_first_one_on(make: Open) -> None:
    async def run() -> None:
        page, study = await make("pointwise")
        await page.send("_on_load")
        code, key = page.value("key"), page.component("key")
        assert re.fullmatch("study-[0-9a-f]{32}", code)
        assert key.buttons == ["copy"]
        other = Page(page.blocks)
        await other.send("_on_load")
        assert other.value("key") != code
        for handler in ("_on_agree", "_on_start"):
            assert page.shows(key)
            page.fill("I am at least 18, have read this, and agree to be recorded", True)
            await page.send(handler)
        await question(page, "Why?")
        await page.send("_on_done")
        await page.send("_on_send")
        assert "Thank you!" in page.text()
        assert (page.shows(key), page.value("key")) == (True, code)
        assert study.collector.store.counts()["responses"] == 1
        page.fill("code", code)
        page.visible[page.component("welcome")._id] = True
        await page.send("_on_forget")
        assert study.collector.store.counts()["responses"] == 0

    asyncio.run(run())


@pytest.mark.parametrize("ticked", [False, True])
@pytest.mark.parametrize(("offered", "required"), [(False, False), (True, False), (True, True)])
def test_the_camera_has_a_consent_of_its_own(make: Open, offered: bool, ticked: bool, required: bool) -> None:
    async def run() -> None:
        camera = Path("package.tgz") if offered else None
        page, study = await make("pointwise", camera=camera, camera_required=required)
        assert ("your camera is used" in page.text()) == offered
        assert page.shows(page.component("camera")) == offered
        await page.send("_on_load")
        page.fill("I am at least 18, have read this, and agree to be recorded", True)
        page.fill("camera", ticked)
        await page.send("_on_agree")
        with study.collector.store.reading() as connection:
            versions = connection.scalars(select(CONSENTS.c.version)).all()
        if required and not ticked:
            assert "needs a camera" in page.text()
            assert versions == []
            return
        agreed = offered and ticked
        version = "2026-11-29 with camera" if agreed else "2026-11-29"
        assert versions == [version]
        mark = page.value("recorder")
        assert f'data-consent="{version}"' in mark
        asked = re.findall('data-camera="([a-z]+)"', mark)
        assert asked == ([("required" if required else "optional")] if agreed else [])

    asyncio.run(run())


@pytest.mark.parametrize("loads_again", [False, True])
def test_a_page_whose_server_was_started_again(make: Open, loads_again: bool) -> None:
    async def run() -> None:
        page, study = await make("pointwise")
        await take_part(page)
        await question(page, "Why?")
        code, store = page.value("key"), study.collector.store
        assert store.counts()["responses"] == 1
        page.lose_the_server()
        if loads_again:
            await page.send("_on_load")
        for handler in ("_on_agree", "_on_start", "_on_ask", "_on_done", "_on_send"):
            page.fill("notice", "")
            await page.send(handler)
            assert "start again" in page.text()
            assert page.shows(page.component("withdraw"))
        assert store.counts()["responses"] == 1
        assert page.value("key") == code
        await page.send("_on_withdraw")
        assert "Everything that was recorded of you is deleted" in page.text()
        assert not page.shows(page.component("key"))
        assert store.counts()["responses"] == 0
        with store.reading() as connection:
            assert connection.execute(NOTES.select()).all() == []
            assert all(connection.scalars(select(PEOPLE.c.withdrawn_at)))

    asyncio.run(run())


def test_nothing_is_said_to_be_deleted_that_is_not(make: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any) -> Any:
        raise OperationalError("DELETE", {}, Exception("database is locked"))

    async def run() -> None:
        page, study = await make("pointwise")
        await take_part(page)
        page.fill("key", "")
        await page.send("_on_withdraw")
        assert "This is not a code" in page.text()
        page.fill("key", "study-" + "0" * 32)
        monkeypatch.setattr(study.collector.store, "withdraw", locked)
        await page.send("_on_withdraw")
        assert "try again in a minute" in page.text()
        assert "is deleted" not in page.text()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (2, "2 seconds"),
        (0.5, "1 second"),
        (60, "1 minute"),
        (240, "4 minutes"),
        (90, "1 minute and 30 seconds"),
        (0, None),
    ],
)
def test_the_least_time_as_people_say_it(seconds: float, said: str | None) -> None:
    told = study_pages.instructions(replace(PROTOCOLS["paper"], least_seconds=seconds), "Bees")
    assert "at least 3 questions" in told
    assert (" and at least" in told) == (said is not None)
    assert said is None or f"at least {said};" in told
