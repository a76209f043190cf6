"""A Chainlit chat whose answers are recorded, for people who agree. public/ifllm.js is its part in the page."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import chainlit as cl
import httpx
from chainlit.config import config

KEY = json.loads(Path("collected/secrets.json").read_text())["IFLLM_COLLECT_API_KEY"]
COLLECTOR = httpx.AsyncClient(base_url="http://127.0.0.1:8765/ifllm/v1", headers={"X-Ifllm-Key": KEY}, timeout=3)

config.ui.custom_js, config.ui.custom_js_attributes = "/public/ifllm.js", 'type="module"'


async def answer_to(question: str) -> AsyncIterator[str]:
    """In place of your model."""
    said = f"You asked *{question}*.\n\n1. **First**, the moon.\n2. Then the `sun`.\n\n{'And so on. ' * 20}"
    for word in said.split(" "):
        yield word + " "
        await asyncio.sleep(0.05)


@cl.on_chat_start
async def start() -> None:
    await tell_page("who")


@cl.on_message
async def answer(question: cl.Message) -> None:
    message = cl.Message("")
    await begin(message, question.content)
    async for piece in answer_to(question.content):
        await message.stream_token(piece)
    await message.update()
    if cl.user_session.get(message.id):
        await tell_page("text", id=message.id)


async def begin(message: cl.Message, query: str) -> None:
    """Register an answer, as empty, for who has agreed."""
    reader = cl.user_session.get("reader")
    if not reader:
        return
    ids = {"person": reader, "conversation": reader, "question_id": message.id, "side": "left"}
    asked = {**ids, "query": query, "model": "my-model"}
    if token := (await ask_collector("responses", {**asked, "text": ""})).get("token"):
        cl.user_session.set(message.id, asked)
        await tell_page("begin", id=message.id, token=token)


@cl.on_window_message
async def from_page(said: Any) -> None:
    """Who reads, or which text a complete answer has on the page. Other messages of the window come here too."""
    match said:
        case {"ifllm": "reader", "reader": str(reader)}:
            reader = reader if re.fullmatch("[0-9a-f]{32}", reader) else ""
            cl.user_session.set("reader", reader)
            if reader and (token := (await ask_collector("people", {"person": reader})).get("person_token")):
                await tell_page("person", token=token)
        case {"ifllm": "shown", "id": str(id), "text": str(text), "grew": grew} if asked := cl.user_session.get(id):
            cl.user_session.set(id, None)
            complete = {**asked, "text": text, "question_id": id if grew else f"{id}.complete"}
            if token := (await ask_collector("responses", complete)).get("token"):
                await tell_page("complete", id=id, token=token)


async def tell_page(what: str, **more: str) -> None:
    await cl.send_window_message({"ifllm": what, **more})


async def ask_collector(path: str, body: dict[str, str]) -> dict[str, Any]:
    """What it answers, or {}: a chat never fails because of the recorder."""
    try:
        reply = await COLLECTOR.post(path, json=body)
        return reply.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        logging.warning("an answer is not recorded (%s)", error)
        return {}
