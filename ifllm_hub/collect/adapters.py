"""Recording in a Gradio `ChatInterface`, in three lines:

collector = Collector(Settings(Path("collected"), origins=("http://127.0.0.1:7860",)))
chat = gr.ChatInterface(recorded(answer, collector), additional_inputs=[consent_box()])
serve_chat(chat, collector)
"""

import asyncio
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape, unescape
from importlib.resources import files
from typing import Any

import gradio as gr
from fastapi import FastAPI

from ifllm_hub.collect import wire
from ifllm_hub.collect.app import bare_app, run_app
from ifllm_hub.collect.collector import Collector
from ifllm_hub.collect.defaults import CONSENT
from ifllm_hub.collect.gate import Gate
from ifllm_hub.collect.router import create_router
from ifllm_hub.collect.sessions import SessionIds
from ifllm_hub.collect.study_blocks import system_theme
from ifllm_hub.collect.study_pages import mark
from ifllm_hub.collect.study_state import tidy

# As of `ChatInterface`: the message and the history -> the answer, or what there is of it so far, again and again.
Answer = Callable[[str, list[dict[str, str]]], str | Iterator[str]]

_STATIC = files("ifllm_hub.collect") / "static"
HEAD = f'<script type="module">{(_STATIC / "study.js").read_text()}</script>'
_MARKED = re.compile(r"<div [^>]*data-ifllm-response=[^>]*>(.*?)</div>", re.DOTALL)
_LABEL = (
    "Record where my mouse pointer is over the answers, with my questions, to improve the models. "
    "“Stop and delete” under an answer deletes it again."
)


def recorded(answer: Answer, collector: Collector, consent: str = CONSENT) -> Callable[..., Iterator[Any]]:
    """A function for `gr.ChatInterface`, whose one additional input is a `consent_box`.

    Answers to who agreed are shown as plain text, because the recorded place is an offset in the registered text;
    answers to the others as `ChatInterface` shows them, and nothing of them is stored. A person is a page load.

    Args:
        consent: version of what the box says.

    Raises:
        IfllmError: the collector's settings do not name this version.
    """
    collector.check_consent(consent)
    people = SessionIds("gradio")

    def chat(message: str, history: Sequence[Mapping[str, Any]], agreed: bool, request: gr.Request) -> Iterator[Any]:
        given = answer(message, [_plain(turn) for turn in history])
        texts = iter((given,)) if isinstance(given, str) else given
        if not agreed:
            yield from texts
            return
        person = people.of(request.session_hash)
        # A chat that was cleared begins another conversation; its turns are told apart by chance, not by number.
        question = uuid.uuid4().hex
        registered: dict[str, Any] = {}

        def register(text: str) -> None:
            asked = wire.Registration(
                person=person,
                question_id=question,
                side="left",
                text=text,
                query=message,
                conversation=person,
                model=getattr(answer, "__name__", "chat"),
                consent=consent,
            )
            registered.update(asyncio.run(collector.register(asked)))

        text = ""
        for text in map(tidy, texts):
            if text and not registered:
                register(text)
            if text:
                yield gr.HTML(_marked(text, question, registered, collector, consent))
        if text:
            register(text)
            yield gr.HTML(_marked(text, question, registered, collector, consent, complete=True))

    return chat


def consent_box(label: str = _LABEL) -> Any:
    """The box by which a person agrees; unticked. Change the version of the consent whenever you change its text."""
    return gr.Checkbox(label=label, value=False)


def create_chat_app(chat: Any, collector: Collector) -> FastAPI:
    """A `ChatInterface` (or any Blocks with one) at `/`, with the collector's addresses under its prefix.

    Files are not taken, and requests of one network address are limited (`Settings.page_rate`).
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
    """Run it until it is told to stop; see `ifllm_hub.collect.app.serve`."""
    run_app(create_chat_app(chat, collector), host, port, behind_proxy)


def _marked(
    text: str, question: str, registered: Mapping[str, Any], collector: Collector, consent: str, complete: bool = False
) -> str:
    whole = " data-ifllm-complete" if complete else ""
    return (
        mark("recording", collector.settings.prefix, registered["person_token"], consent)
        + f'<div class="ifllm-text" data-ifllm-response="{registered["token"]}" data-ifllm-stream="{question}"{whole}>'
        + f'{escape(text)}</div><button class="ifllm-small" data-ifllm-withdraw>Stop and delete</button>'
    )


def _plain(turn: Mapping[str, Any]) -> dict[str, str]:
    """A turn of the history as text: an answer of ours is a component with the text in it, or what came of it."""
    content = turn["content"]
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        part = part.constructor_args if isinstance(part, gr.HTML) else part
        if isinstance(part, str):
            texts.append(part)
        elif "text" in part:
            texts.append(part["text"])
        elif found := _MARKED.search(str(part.get("value"))):
            texts.append(unescape(found[1]))
    return {"role": str(turn["role"]), "content": "\n".join(texts)}
