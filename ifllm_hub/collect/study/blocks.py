"""The study's Gradio pages: what each step shows, and what the buttons do."""

import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import gradio as gr
from sqlalchemy.exc import SQLAlchemyError

from ifllm_hub.collect.server.limits import network_of
from ifllm_hub.collect.store.refusals import Withdrawn
from ifllm_hub.collect.study import pages
from ifllm_hub.collect.study.flow import Study
from ifllm_hub.collect.study.settings import StudySettings
from ifllm_hub.collect.study.state import MAX_QUERY, MAX_SUMMARY, QUESTIONNAIRE, SCALE, NotYet, Participant
from ifllm_hub.errors import IfllmError

_log = logging.getLogger(__name__)
Updates = dict[Any, Any]
# Seconds between two updates of a growing answer: each is a message, and makes the page lay itself out again.
_UPDATE_SECONDS = 0.15
_RESTARTED = (
    "The server was restarted, or this page was left for a long time, so the study cannot continue here. What was "
    "recorded of you is still stored: “Stop and delete” deletes it. To take part, keep your code, reload this page and "
    "start again."
)
_SCALE = [(str(value), value) for value in SCALE]
_QUESTIONS = {
    "age": "Age",
    "education": "Highest education",
    "chatbot_use": "How often do you use chatbots?",
}


def system_theme() -> Any:
    """Gradio's theme with system fonts: its own are fetched from another host, which would learn who takes part.

    Contrasts are those of WCAG 2.2: 4.5 to 1 for text, 3 to 1 for what marks a control.
    """
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    contrasts = {
        "button_primary_background_fill": ("*primary_700", "*primary_700"),
        "button_primary_background_fill_hover": ("*primary_800", "*primary_800"),
        "block_info_text_color": ("*neutral_600", "*neutral_300"),
        "block_title_text_color": ("*neutral_700", "*neutral_200"),
        "checkbox_border_color": ("*neutral_500", "*neutral_400"),
        "input_border_color": ("*neutral_500", "*neutral_400"),
    }
    light = {name: colors[0] for name, colors in contrasts.items()}
    return theme.set(**light, **{f"{name}_dark": colors[1] for name, colors in contrasts.items()})


class StudyBlocks:
    """The pages of a study, `blocks`, to be mounted in an app that has the collector's router.

    A page is a column, of which one is visible. A handler returns what changes, by component. A component that is not
    visible is not in the page: it hands over None, whatever its type.
    """

    def __init__(self, settings: StudySettings, study: Study):
        self._settings, self._study = settings, study
        with gr.Blocks(title=settings.title, analytics_enabled=False) as self.blocks:
            # Created when the page is opened, and None for a page that was opened before the server started. So the
            # code that deletes is kept in the page as well.
            self._person = gr.State()
            self._recorder = gr.HTML(elem_id="recorder")
            self._steps = [self._welcome(), self._about(), self._chat(), self._ending()]
            self._notice = gr.HTML(elem_id="notice")
            self._closing = gr.HTML(visible=False, elem_id="closing")
            with gr.Column(elem_id="leave"):
                self._key = gr.Textbox(
                    label="Your code",
                    info="Please keep it: it deletes what was recorded of you, even later. Nobody can look it up.",
                    interactive=False,
                    buttons=["copy"],
                    elem_id="key",
                )
                with gr.Accordion("Stop and delete", open=False, visible=False, elem_id="stop") as self._stop:
                    gr.HTML(
                        "<p>This stops recording and deletes all that was recorded of you. It cannot be undone.</p>"
                    )
                    self._withdraw = gr.Button("Delete everything", variant="stop", elem_id="withdraw")
            self._connect()

    def _welcome(self) -> Any:
        with gr.Column(elem_id="welcome") as column:
            gr.HTML(self._settings.consent.html())
            self._adult = gr.Checkbox(label="I am at least 18, have read this, and agree to be recorded")
            needed = "needed for this study" if self._settings.camera_required else "optional"
            self._camera = gr.Checkbox(
                label=f"I also agree to use my camera as described ({needed})",
                visible=self._settings.camera is not None,
                elem_id="camera",
            )
            self._agree = gr.Button("Take part", variant="primary", interactive=False, elem_id="agree")
            with gr.Accordion("Delete what was recorded earlier", open=False):
                self._code = gr.Textbox(label="Your code", max_length=100, elem_id="code")
                self._forget = gr.Button("Delete", variant="stop", elem_id="forget")
        return column

    def _about(self) -> Any:
        topics = list(self._settings.topics)
        with gr.Column(visible=False, elem_id="about") as column:
            gr.HTML("<h2>Before we begin</h2>")
            asked = self._settings.questionnaire
            self._bins = [
                gr.Radio(list(QUESTIONNAIRE[name]), label=f"{label} (optional)", visible=asked)
                for name, label in _QUESTIONS.items()
            ]
            self._topic = gr.Dropdown(topics, value=topics[0], label="A topic to learn about", elem_id="topic")
            self._before = gr.Radio(
                _SCALE, label="How much do you know about it? (1 nothing, 5 a lot)", elem_classes="scale"
            )
            self._start = gr.Button("Begin", variant="primary", elem_id="start")
        return column

    def _chat(self) -> Any:
        with gr.Column(visible=False, elem_id="chat") as column:
            self._instructions = gr.HTML()
            self._history = gr.HTML(elem_id="history")
            self._answers = gr.HTML(elem_id="answers")
            with gr.Column(visible=False, elem_id="ratings") as self._ratings:
                with gr.Row():
                    self._left = gr.Radio(
                        _SCALE, label="Satisfied with the answer?", min_width=240, elem_id="left", elem_classes="scale"
                    )
                    self._right = gr.Radio(
                        _SCALE, label="Satisfied with answer B?", min_width=240, elem_id="right", elem_classes="scale"
                    )
                better = [("Answer A", "left"), ("Answer B", "right")]
                self._preference = gr.Radio(better, label="Which one is better?", elem_id="preference")
                compared = [("better", True), ("worse", False)]
                self._compared = gr.Radio(compared, label="Compared with the answer before, it is", elem_id="compared")
            self._query = gr.Textbox(label="Your question", max_lines=4, max_length=MAX_QUERY, elem_id="query")
            with gr.Row():
                self._ask = gr.Button("Ask", variant="primary", elem_id="ask")
                self._done = gr.Button("Finished", elem_id="done")
        return column

    def _ending(self) -> Any:
        with gr.Column(visible=False, elem_id="ending") as column:
            gr.HTML("<h2>What did you learn?</h2>")
            asked = self._study.protocol.summary
            self._summary = gr.Textbox(
                label="In one or two sentences", lines=3, max_length=MAX_SUMMARY, visible=asked, elem_id="summary"
            )
            self._after = gr.Radio(
                _SCALE, label="How much do you know about it now? (1 nothing, 5 a lot)", elem_classes="scale"
            )
            self._send = gr.Button("Send", variant="primary", elem_id="send")
        return column

    def _connect(self) -> None:
        rated = [self._left, self._right, self._preference, self._compared]
        said = [self._person, self._query, *rated]
        outputs = [
            *(self._recorder, *self._steps, self._notice, self._closing, self._key, self._stop, self._instructions),
            *(self._history, self._answers, self._ratings, *rated, self._query, self._code),
        ]

        def on(trigger: Any, handler: Callable[..., Any], inputs: list[Any]) -> None:
            # Participants do not wait for each other, and none of this is an API. Gradio's own progress display fades
            # and frames every part of the page, including the text being read.
            gr.on(
                trigger,
                handler,
                inputs,
                outputs,
                concurrency_limit=None,
                api_visibility="private",
                show_progress="hidden",
            )

        begun = [self._person, self._key, self._agree]
        self.blocks.load(self._on_load, [self._key], begun, api_visibility="private", show_progress="hidden")
        on(self._agree.click, self._on_agree, [self._person, self._adult, self._camera])
        on(self._forget.click, self._on_forget, [self._code])
        on(self._start.click, self._on_start, [self._person, self._topic, self._before, *self._bins])
        asked = [self._ask.click, self._query.submit]
        gr.on(asked, None, js="() => { globalThis.ifllmStudy.submit(); }", api_visibility="private")
        # Of two answers the preference is what is decided on.
        for answers, decided in enumerate((self._left, self._preference), start=1):
            script = f"() => {{ globalThis.ifllmStudy.vote({answers}); }}"
            gr.on(decided.input, None, js=script, api_visibility="private")
        on(asked, self._on_ask, said)
        on(self._done.click, self._on_done, said)
        on(self._send.click, self._on_send, [self._person, self._summary, self._after])
        on(self._withdraw.click, self._on_withdraw, [self._person, self._key])

    async def _on_load(self, key: str | None) -> Updates:
        if key:  # the page was open before: no new code while the old one may still delete something
            return {self._person: None}
        participant = self._study.begin()
        return {self._person: participant, self._key: participant.code, self._agree: gr.update(interactive=True)}

    async def _on_agree(
        self, request: gr.Request, participant: Participant | None, adult: bool, camera: bool | None
    ) -> Updates:
        async def work(participant: Participant) -> Updates:
            if not adult:
                raise NotYet("Please tick the box, if you agree. If you do not, close this page.")
            if self._settings.camera_required and not camera:
                raise NotYet("This study needs a camera. If you do not want to use yours, close this page.")
            await self._study.agree(participant, network_of(request), bool(camera))
            stop = gr.update(visible=True)
            return {**self._step(1), self._recorder: self._mark(participant), self._stop: stop}

        return await self._guarded(participant, work)

    async def _on_forget(self, code: str | None) -> Updates:
        try:
            await self._study.delete(code or "")
        except (IfllmError, SQLAlchemyError) as error:
            return {self._notice: self._told(error)}
        told = "If anything was recorded under this code, it is deleted now."
        return {self._notice: pages.notice(told), self._code: ""}

    async def _on_start(
        self, participant: Participant | None, topic: str | None, knowledge: int | None, *bins: str | None
    ) -> Updates:
        async def work(participant: Participant) -> Updates:
            if topic is None:
                raise NotYet("Please choose a topic.")
            await self._study.describe(participant, dict(zip(_QUESTIONS, bins, strict=True)))
            await self._study.start(participant, topic, knowledge)
            told = pages.instructions(self._study.protocol, topic)
            return {**self._step(2), self._instructions: told, **self._asked_for(participant, query="")}

        return await self._guarded(participant, work)

    async def _on_ask(
        self, request: gr.Request, participant: Participant | None, query: str | None, *ratings: Any
    ) -> AsyncGenerator[Updates]:
        query = query or ""

        async def rate(participant: Participant) -> Updates:
            if participant.turns:
                await self._rate(participant, *ratings)
            return {}

        refused = await self._guarded(participant, rate)
        if participant is None or refused:
            yield refused
            return
        before = list(participant.turns)
        waiting = {self._notice: "", self._ratings: gr.update(visible=False), self._query: gr.update(interactive=False)}
        shown_at = 0.0
        try:
            async with aclosing(self._study.ask(participant, query, network_of(request))) as growing:
                async for turn in growing:
                    if turn.done or time.monotonic() - shown_at >= _UPDATE_SECONDS:
                        yield {**waiting, self._answers: pages.answers(turn), self._history: pages.history(before)}
                        shown_at, waiting = time.monotonic(), {}
        except (IfllmError, Withdrawn, SQLAlchemyError) as error:
            # What was shown so far does not count as a turn unless all of its answers had begun.
            shown = pages.answers(before[-1]) if before else ""
            ready = {self._answers: shown, self._history: pages.history(before[:-1])}
            yield {**ready, **self._asked_for(participant, query), **self._refusal(participant, error)}
            return
        empty = dict.fromkeys((self._left, self._right, self._preference, self._compared))
        yield {**empty, **self._asked_for(participant, query="")}

    async def _on_done(self, participant: Participant | None, query: str | None, *ratings: Any) -> Updates:
        async def work(participant: Participant) -> Updates:
            if participant.turns:
                await self._rate(participant, *ratings)
            self._study.may_finish(participant)
            return self._step(3)

        return await self._guarded(participant, work)

    async def _on_send(self, participant: Participant | None, summary: str | None, knowledge: int | None) -> Updates:
        async def work(participant: Participant) -> Updates:
            await self._study.finish(participant, summary or "", knowledge)
            return self._over(participant)

        return await self._guarded(participant, work)

    async def _on_withdraw(self, participant: Participant | None, key: str | None) -> Updates:
        """Withdraw by the page's own code, which is the participant's even if the server no longer knows them."""
        try:
            await self._study.withdraw(participant, key or "")
        except (IfllmError, SQLAlchemyError) as error:
            return {self._notice: self._told(error)}
        return self._over(participant)

    async def _rate(
        self, participant: Participant, left: int | None, right: int | None, preference: Any, compared: bool | None
    ) -> None:
        await self._study.rate(participant, {"left": left, "right": right}, preference, compared)

    async def _guarded(
        self, participant: Participant | None, work: Callable[[Participant], Awaitable[Updates]]
    ) -> Updates:
        """What a step changes, or the notice if it cannot be taken."""
        if participant is None:
            return {self._notice: pages.notice(_RESTARTED), self._stop: gr.update(visible=True)}
        try:
            return await work(participant)
        except (IfllmError, Withdrawn, SQLAlchemyError) as error:
            return self._refusal(participant, error)

    def _refusal(self, participant: Participant, error: Exception) -> Updates:
        if isinstance(error, Withdrawn):
            participant.state = "withdrawn"
            return self._over(participant)
        return {self._notice: self._told(error)}

    def _told(self, error: Exception) -> str:
        if isinstance(error, SQLAlchemyError):
            _log.error("the store could not be reached (%s)", type(error).__name__)
            return pages.notice("This could not be stored or deleted just now. Please try again in a minute.")
        return pages.notice(str(error))

    def _step(self, number: int | None) -> Updates:
        shown = {column: gr.update(visible=at == number) for at, column in enumerate(self._steps)}
        return {**shown, self._notice: ""}

    def _over(self, participant: Participant | None) -> Updates:
        """The end, however it was reached: thanks, or a confirmation that everything is deleted."""
        finished = participant is not None and participant.state == "finished"
        ended = {
            self._closing: gr.update(value=pages.thanks() if finished else pages.withdrawn(), visible=True),
            self._key: gr.update(visible=finished),
            self._stop: gr.update(visible=finished),
        }
        return {**self._step(None), **ended, self._recorder: self._mark(participant)}

    def _mark(self, participant: Participant | None) -> str:
        endpoint = self._settings.collector.prefix.lstrip("/")  # beside the page, wherever that is
        if participant is None:
            return pages.mark("withdrawn", endpoint, "", self._study.consent)
        shown = participant.state if participant.state in ("finished", "withdrawn") else "recording"
        needed = "required" if self._settings.camera_required else "optional"
        camera = needed if participant.camera else ""
        return pages.mark(shown, endpoint, participant.token, self._study.consent_of(participant), camera=camera)

    def _asked_for(self, participant: Participant, query: str) -> Updates:
        """The ratings that the participant's turn asks for, and the field for the next question."""
        pairwise, turns = participant.mode == "pairwise", len(participant.turns)
        name = "Satisfied with answer A?" if pairwise else "Satisfied with the answer?"
        return {
            self._ratings: gr.update(visible=turns > 0),
            self._left: gr.update(label=f"{name} (1 not at all, 5 very)"),
            self._right: gr.update(visible=pairwise, label="Satisfied with answer B? (1 not at all, 5 very)"),
            self._preference: gr.update(visible=pairwise),
            self._compared: gr.update(visible=not pairwise and turns > 1),
            self._query: gr.update(
                interactive=True, value=query, label="Your next question" if turns else "Your question"
            ),
        }
