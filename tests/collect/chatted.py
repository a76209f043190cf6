"""A `ChatInterface` that is recorded, in a process of its own: `python -m tests.collect.chatted FOLDER PORT`."""

import sys
from collections.abc import Iterator
from pathlib import Path

import gradio as gr

from ifllm_hub.collect.adapters import consent_box, recorded, serve_chat
from ifllm_hub.collect.collector import Collector
from ifllm_hub.collect.settings import Settings


def answer(message: str, history: list[dict[str, str]]) -> Iterator[str]:
    """Says what it was told, and what the history was."""
    said = f"You said {message}; before: {[turn['content'] for turn in history]}. " + "words " * 60
    yield said[: len(said) // 2]
    yield said


if __name__ == "__main__":
    folder, port = sys.argv[1:]
    collector = Collector(Settings(Path(folder), origins=(f"http://127.0.0.1:{port}",)))
    chat = gr.ChatInterface(recorded(answer, collector), additional_inputs=[consent_box()])
    serve_chat(chat, collector, port=int(port))
