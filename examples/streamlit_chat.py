"""A Streamlit chat whose answers are recorded, for people who agree."""

import json
import logging
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import streamlit as st

ENDPOINT = "http://127.0.0.1:8765/ifllm"  # the collector, as browsers and this server reach it
CONSENT = "2026-11-29"  # the version of QUESTION
QUESTION = "May we record how you read (cursor, screen, how much you copy, when you type), with questions and answers?"
KEY = json.loads(Path("collected/secrets.json").read_text())["IFLLM_COLLECT_API_KEY"]

# Runs in the page each time `recording` has run, whose `data` it gets.
SCRIPT = """
export default (component) => void run(component);

async function run({ data, parentElement, setStateValue, setTriggerValue }) {
  const { begin, complete, consentBox, reader, record, textOf } = await import(`${data.endpoint}/answers.js`);
  const tellReader = () => setStateValue("reader", reader());
  if (!parentElement.querySelector("button")) parentElement.append(consentBox(data.question, tellReader));
  if (data.reader !== reader()) return tellReader();
  if (!data.person) return;
  record(data.person, data.consent);
  for (const { id, token, state } of data.answers) {
    const selector = `.st-key-answer-${id}`;
    if (state === "shown") complete(selector, token);
    else begin(selector, token);
    if (state === "complete") setTriggerValue("shown", { id, ...(await textOf(selector)) });
  }
}
"""
page = st.components.v2.component("ifllm", js=SCRIPT, isolate_styles=False)

state = st.session_state
state.setdefault("answers", {})  # by id
state.setdefault("reader", "")
state.setdefault("person", None)


def answer_to(question: str) -> Iterator[str]:
    """In place of your model."""
    said = f"You asked *{question}*.\n\n1. **First**, the moon.\n2. Then the `sun`.\n\n{'And so on. ' * 20}"
    for word in said.split(" "):
        yield word + " "
        time.sleep(0.05)


def ask_collector(path: str, body: dict[str, str]) -> dict[str, Any]:
    """What it answers, or {}: a chat never fails because of the recorder."""
    try:
        reply = httpx.post(f"{ENDPOINT}/v1/{path}", json=body, headers={"X-Ifllm-Key": KEY}, timeout=3)
        return reply.raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        logging.warning("an answer is not recorded (%s)", error)
        return {}


def register(id: str, text: str, grew: bool = True) -> None:
    """Register the text of an answer; while it grows, that is an empty one."""
    question = id if grew else f"{id}.complete"
    ids = {"person": state.reader, "conversation": state.reader, "question_id": question, "side": "left"}
    body = {**ids, "query": state.answers[id]["question"], "text": text, "model": "my-model"}
    state.answers[id]["token"] = ask_collector("responses", body).get("token")


def on_reader() -> None:
    """Somebody has agreed; or withdrawn, which has made their tokens void."""
    reader = state.recording.reader
    state.reader = reader if re.fullmatch("[0-9a-f]{32}", reader) else ""
    state.person = ask_collector("people", {"person": reader}).get("person_token") if state.reader else None
    for answer in state.answers.values():
        answer["token"] = None


def on_shown() -> None:
    """The page has said which text an answer has there."""
    shown = state.recording.shown
    if state.reader and state.answers[shown["id"]]["state"] == "complete":
        state.answers[shown["id"]]["state"] = "shown"
        register(**shown)


@st.fragment  # so that what the page says does not end an answer that is on its way
def recording() -> None:
    marked = [{"id": id, **answer} for id, answer in state.answers.items() if answer["token"]]
    data = {"endpoint": ENDPOINT, "consent": CONSENT, "question": QUESTION, "answers": marked}
    data |= {"reader": state.reader, "person": state.person}
    page(key="recording", data=data, on_reader_change=on_reader, on_shown_change=on_shown)


question = st.chat_input("Message")
if question:
    new = uuid.uuid4().hex
    state.answers[new] = {"question": question, "text": None, "state": "begun", "token": None}
    if state.reader:
        register(new, "")
recording()
for id, answer in state.answers.items():
    st.chat_message("user").write(answer["question"])
    with st.chat_message("assistant"), st.container(key=f"answer-{id}"):
        if answer["text"] is not None:
            st.write(answer["text"])
        elif question and id == new:
            answer["text"] = st.write_stream(answer_to(question))
            answer["state"] = "complete"
            st.rerun()
