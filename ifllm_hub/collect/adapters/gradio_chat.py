"""Recording in a Gradio `ChatInterface`, in three lines:

collector = Collector(Settings(Path("collected"), origins=("http://127.0.0.1:7860",)))
chat = gr.ChatInterface(recorded(answer, collector), additional_inputs=[consent_box()])
serve_chat(chat, collector)
"""

import asyncio
import inspect
import logging
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from html import escape, unescape
from html.parser import HTMLParser
from importlib.resources import files
from typing import Any

import gradio as gr
from fastapi import FastAPI
from gradio.route_utils import API_PREFIX
from markdown_it import MarkdownIt
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from ifllm_hub.collect import CONSENT, wire
from ifllm_hub.collect.server.app import bare_app, run_app
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.server.gate import Gate
from ifllm_hub.collect.server.router import create_router
from ifllm_hub.collect.store.store import now_ms
from ifllm_hub.collect.study.blocks import system_theme
from ifllm_hub.collect.study.pages import mark
from ifllm_hub.errors import IfllmError

_log = logging.getLogger(__name__)
# How long an answer waits for the store, seconds, before it continues unrecorded.
_PATIENCE = 3.0
_STATIC = files("ifllm_hub.collect") / "static"
HEAD = "".join(f'<script type="module">{(_STATIC / name).read_text()}</script>' for name in ("study.js", "chat.js"))
# Line breaks as in `gr.Chatbot`; HTML in an answer is shown as text.
_MARKDOWN = MarkdownIt("js-default", {"html": False, "breaks": True})
_KEY = re.compile(r"[0-9a-f]{32}")
_SOURCE = re.compile(r'<div class="ifllm-text[^>]* data-ifllm-source="([^"]*)"')
_LABEL = (
    "Record how I read answers (where my mouse pointer or finger is, what is on my screen, how much I copy, when I "
    "begin to type), with my questions and the answers, to improve the models."
)
_BOX = """<div class="ifllm-box">
<label><input type="checkbox" ${value ? "checked" : ""}> <span>${said_label}</span></label>
${value ? `<p class="ifllm-small">Recording is on. Your code, should you want to have it deleted by who runs this chat:
<code>gradio-${value}</code> <button data-ifllm-copy="gradio-${value}">Copy</button></p>` : ""}
<p class="ifllm-small" role="status">${said}</p>
${stored ? `<button data-ifllm-withdraw>Stop and delete everything that was recorded of me</button>` : ""}
</div>"""


def recorded(answer: Callable[..., Any], collector: Collector, consent: str = CONSENT) -> Callable[..., Any]:
    """Make a function for `gr.ChatInterface`, whose first additional input is a `consent_box`; your own follow it.

    People who agreed see each answer as rendered Markdown whose text is registered, so that a recorded position is an
    offset in that text. Others see answers as `ChatInterface` shows them, and nothing about them is stored. What cannot
    be recorded is passed on unchanged: an answer that is not text or has more than 32,767 characters, and every answer
    while the store cannot be reached. A person is identified by a key that their page made when they ticked the box.

    Args:
        answer: as for `ChatInterface`: a function, coroutine function, generator or asynchronous generator.
        consent: version of the box's text.

    Raises:
        IfllmError: the collector's settings do not name this version, or `answer` does not take a message and the
            history.
    """
    collector.check_consent(consent)

    async def chat(
        message: Any, history: Sequence[Mapping[str, Any]], key: Any, request: gr.Request | None, *inputs: Any
    ) -> AsyncIterator[Any]:
        answers = _answers(answer, message, [_unmarked(turn) for turn in history], *inputs)
        agreed = isinstance(key, str) and _KEY.fullmatch(key)
        recording = None
        if agreed:
            endpoint = _endpoint(request, collector.settings.prefix)
            recording = _Recording(collector, consent, str(key), _query(message), _name(answer), endpoint)
        piece = None
        async with aclosing(answers):
            async for piece in answers:
                yield piece if recording is None else await recording.shown(piece)
        if recording is not None and piece is not None:
            yield await recording.shown(piece, complete=True)

    chat.__signature__, chat.__annotations__ = _signature(answer)  # type: ignore[attr-defined]
    return chat


def consent_box(label: str = _LABEL) -> Any:
    """The box that a person ticks to agree; unticked at first. Change the version of the consent whenever you change
    its text.

    Its value is the key of the person who agreed, and "" until then.
    """
    return gr.HTML(
        "",
        html_template=_BOX,
        js_on_load="globalThis.ifllmBox = { props }; dispatchEvent(new Event('ifllm:box'));",
        said_label=escape(label),
        said="",
        stored=False,
    )


def create_chat_app(chat: Any, collector: Collector) -> FastAPI:
    """A `ChatInterface` (or any Blocks with one) at `/`, with the collector's addresses under its prefix.

    Files are refused, and requests from one network address are limited (`Settings.page_rate`).
    """
    app = bare_app("ifllm chat")
    app.add_middleware(Gate, settings=collector.settings)
    app.include_router(create_router(collector.settings, collector))
    css = (_STATIC / "study.css").read_text()
    return gr.mount_gradio_app(
        app,
        chat,
        path="/",
        head=HEAD,
        css=css,
        theme=system_theme(),
        ssr_mode=False,
        app_kwargs={"openapi_url": None},
    )


def serve_chat(
    chat: Any, collector: Collector, host: str = "127.0.0.1", port: int = 7860, behind_proxy: bool = False
) -> None:
    """Run it until it is stopped; see `ifllm_hub.collect.server.app.serve`."""
    run_app(create_chat_app(chat, collector), host, port, behind_proxy)


class _Recording:
    """One answer to a person who agreed: what is shown and what is registered."""

    def __init__(self, collector: Collector, consent: str, key: str, query: str, model: str, endpoint: str):
        self._collector, self._consent, self._key, self._endpoint = collector, consent, key, endpoint
        # A cleared chat begins a new conversation, so turns have random ids instead of numbers.
        self._question = uuid.uuid4().hex
        self._asked = partial(
            wire.Registration,
            person=f"gradio-{key}",
            question_id=self._question,
            side="left",
            query=query,
            conversation=f"gradio-{key}",
            model=model,
        )
        self._tokens: dict[str, Any] = {}
        self._failed = False

    async def shown(self, piece: Any, complete: bool = False) -> Any:
        """What `ChatInterface` shows for the answer so far; the piece itself if it cannot be recorded."""
        first, *more = piece if isinstance(piece, tuple) and piece else (piece,)  # with `additional_outputs`
        source = _source(first)
        if self._failed or not source:
            return piece
        html = _MARKDOWN.render(_printable(source))
        text = _text(html)
        if len(text) > wire.MAX_TEXT:
            self._failed = True
            if self._tokens:  # readings until now belong to the registered text
                await self._register(text[: wire.MAX_TEXT])
        # While it grows, it is registered as empty: every text begins with an empty one, whereas the rendered Markdown
        # of a beginning need not be a beginning of the final rendering.
        elif complete or not self._tokens:
            await self._register(text if complete else "")
        if self._failed:
            return piece
        shown = gr.HTML(self._marked(html, source, complete))
        first = shown if isinstance(first, str) else _with_content(first, shown)
        return (first, *more) if isinstance(piece, tuple) else first

    async def _register(self, text: str) -> None:
        """Nothing is stored about a person who has withdrawn: they agree again under another key."""
        try:
            registering = asyncio.ensure_future(self._registered(text))
            registering.add_done_callback(_retrieve)
            self._tokens = await asyncio.wait_for(asyncio.shield(registering), _PATIENCE)
        except Exception as error:  # the chat continues, whatever it is
            _log.warning("an answer could not be recorded (%s)", type(error).__name__)
            self._failed = True

    async def _registered(self, text: str) -> dict[str, Any]:
        asked, collector = self._asked(text=text), self._collector
        person = collector.pseudonyms.person(asked.person)
        await asyncio.wrap_future(collector.store.agree(person, self._consent, now_ms()))
        return await collector.register(asked)

    def _marked(self, html: str, source: str, complete: bool) -> str:
        whole, tokens = " data-ifllm-complete" if complete else "", self._tokens
        return (
            mark("recording", self._endpoint, tokens["person_token"], self._consent, self._key)
            + f'<div class="ifllm-text ifllm-markdown" data-ifllm-stream="{self._question}"{whole}'
            + f' data-ifllm-key="{self._key}" data-ifllm-token="{tokens["token"]}"'
            + f' data-ifllm-source="{escape(source)}">{html}</div>'
            + '<button class="ifllm-small" data-ifllm-withdraw>Stop and delete everything</button>'
        )


async def _answers(answer: Callable[..., Any], *inputs: Any) -> AsyncGenerator[Any]:
    """The answers of a function of any kind; whatever could block runs in a thread."""
    given = await run_in_threadpool(answer, *inputs)
    if inspect.isawaitable(given):
        given = await given
    if isinstance(given, AsyncIterator):
        async for piece in given:
            yield piece
    elif isinstance(given, Iterator):
        async for piece in iterate_in_threadpool(given):
            yield piece
    else:
        yield given


def _signature(answer: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    """The signature and hints of `answer`, with the box's key as third input and the request as fourth.

    From these, Gradio fills in what is not an input of the page.
    """
    function = answer if inspect.isroutine(answer) else answer.__call__  # type: ignore[operator]
    parameters = list(inspect.signature(answer).parameters.values())
    if len(parameters) < 2:
        raise IfllmError(f"{_name(answer)}: a function for a chat takes a message and the history.")
    ours = [inspect.Parameter(name, parameters[1].kind) for name in ("ifllm_key", "ifllm_request")]
    hints = {**inspect.get_annotations(function, eval_str=True), "ifllm_request": gr.Request}
    return inspect.Signature([*parameters[:2], *ours, *parameters[2:]]), hints


def _endpoint(request: gr.Request | None, prefix: str) -> str:
    """The collector's address as seen from the page: both belong to one app, in which the page may have a path."""
    scope = request.request.scope if request and request.request else {}
    # Not `root_path`: behind a proxy Gradio puts the public one there, with which the page's own address begins.
    path, _, _ = scope.get("path", "").partition(f"{API_PREFIX}/")
    path = path.removeprefix(scope.get("app_root_path", ""))
    return "../" * len(path.split("/")[1:]) + prefix.lstrip("/")


def _name(answer: Callable[..., Any]) -> str:
    name = getattr(answer, "__name__", type(answer).__name__)
    return "".join(filter(str.isprintable, name))[:200] or "chat"


def _query(message: Any) -> str:
    """The text of a message, which may have files; `wire.Registration` cuts a long one."""
    text = message.get("text") if isinstance(message, Mapping) else message
    return _printable(str(text or ""))


def _printable(text: str) -> str:
    """The text without code points that UTF-8 or a database cannot hold; each is replaced by one other."""
    return re.sub("[\0\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def _source(piece: Any) -> str | None:
    """The text of an answer, or of a message with nothing else in it; None if there is none."""
    if isinstance(piece, str):
        return piece
    message = piece if isinstance(piece, dict) else vars(piece) if isinstance(piece, gr.ChatMessage) else {}
    content, titled = message.get("content"), (message.get("metadata") or {}).get("title")
    return content if isinstance(content, str) and not titled else None


def _with_content(message: Any, content: Any) -> Any:
    return {**message, "content": content} if isinstance(message, dict) else replace(message, content=content)


def _unmarked(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A turn of the history as it would be without recording: with the answer instead of its rendering."""
    content = turn["content"]
    if isinstance(content, list):
        return {**turn, "content": [_part(part) for part in content]}
    plain = _part(content)
    return {**turn, "content": plain["text"] if plain is not content else content}


def _part(part: Any) -> Any:
    # A component of an earlier turn is known only by its constructor's arguments.
    component = part.constructor_args if isinstance(part, gr.HTML) else part
    shown = component.get("value") if isinstance(component, Mapping) else None
    found = _SOURCE.search(shown) if isinstance(shown, str) else None
    return {"type": "text", "text": unescape(found[1])} if found else part


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def _text(html: str) -> str:
    """The `textContent` of rendered HTML."""
    parser = _Texts()
    parser.feed(html)
    parser.close()
    return "".join(parser.texts)


def _retrieve(done: "asyncio.Future[Any]") -> None:
    """Keep asyncio from reporting an error that came too late."""
    if not done.cancelled():
        done.exception()
