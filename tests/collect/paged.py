"""A study and a recorded chat in one process: `python -m tests.collect.paged FOLDER STUDY_PORT CHAT_PORT`."""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import gradio as gr
import uvicorn

from ifllm_hub.collect.adapters.gradio_chat import consent_box, create_chat_app, recorded
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.settings import Rate, Settings
from ifllm_hub.collect.study.app import create_study_app
from ifllm_hub.collect.study.settings import StudySettings

# As good as never filled again.
PAGE_BURST, ASK_BURST = 40, 4
LIMITED = Settings(Path(), page_rate=Rate(1e-9, PAGE_BURST), address_ask_rate=Rate(1e-9, ASK_BURST))


def answer(message: str, history: list[dict[str, str]]) -> str:
    return f"You said {message}"


async def serve(folder: Path, study_port: int, chat_port: int) -> None:
    settings = replace(LIMITED, folder=folder)
    study = create_study_app(StudySettings(settings, models=("echo",), protocol="pointwise", contact="Ada"))
    collector = Collector(settings)
    chat = create_chat_app(gr.ChatInterface(recorded(answer, collector), additional_inputs=[consent_box()]), collector)
    apps = ((study, study_port), (chat, chat_port))
    servers = [uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning")) for app, port in apps]
    await asyncio.gather(*(server.serve() for server in servers))


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
