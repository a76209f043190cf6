"""A `ChatInterface` that is recorded, in a process of its own: `python -m tests.collect.adapters.chatted FOLDER PORT`.

With `PATH PREFIX` after it, it is mounted at the path in an app of its own, behind a proxy that takes the prefix off.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
import uvicorn
from fastapi import FastAPI

from ifllm_hub.collect.adapters.gradio_chat import HEAD, consent_box, recorded, serve_chat
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.server.router import create_router
from ifllm_hub.collect.settings import Settings
from tests.collect.proxied import Proxy


async def answer(message: str, history: list[dict[str, Any]], style: str, words: float) -> AsyncIterator[str]:
    """Says in Markdown what it was told, and how the turns before began."""
    before = [part["text"][:10] for turn in history for part in turn["content"]]
    said = f"You said {message}; before: {before}.\n\nIn a **{style}** way:\n\n- one\n- two\n\n" + "words " * int(words)
    for end in range(0, len(said), 100):
        yield said[:end]
        await asyncio.sleep(0.02)
    yield said


if __name__ == "__main__":
    folder, port, *where = sys.argv[1:]
    collector = Collector(Settings(Path(folder), origins=(f"http://127.0.0.1:{port}",)))
    chat = gr.ChatInterface(
        recorded(answer, collector),
        additional_inputs=[consent_box(), gr.Textbox("plain", label="Style"), gr.Slider(1, 100, 60, label="Words")],
        additional_inputs_accordion=gr.Accordion("Recording and settings", open=True),
    )
    if where:
        path, prefix = where
        app = FastAPI()
        app.include_router(create_router(collector.settings, collector))
        public = f"{prefix}{path}" if prefix else None
        app = gr.mount_gradio_app(app, chat, path=path or "/", head=HEAD, ssr_mode=False, root_path=public)
        uvicorn.run(Proxy(app, prefix), host="127.0.0.1", port=int(port), log_level="warning")
    else:
        serve_chat(chat, collector, port=int(port))
