"""
title: ifllm reading recorder
description: Records how answers are read, for users who switched it on.
requirements: httpx
"""

# A filter function for Open WebUI (Admin panel, Functions). When an answer begins, it registers it with an ifllm
# collector, and has the page mark it and start the tracker; when it is complete, it registers its text as the page
# shows it.

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import BaseModel, Field

Call = Callable[[dict[str, Any]], Awaitable[Any]]

_log = logging.getLogger(__name__)
# How long a question waits for the collector, and a complete answer for the collector and the page, seconds: a
# collector may hang, a tab may be closed.
_PATIENCE_BEFORE, _PATIENCE = 2.0, 10.0
# Code points, as the collector has it: an answer that is longer is refused, a question is cut.
_MAX_TEXT, _MAX_QUERY = 32_767, 100_000
# Chats of which Open WebUI keeps nothing, so nothing is recorded either.
_UNSAVED = ("temporary:", "local:", "channel:")

# The collector's script for pages like this one marks answers, also when the page renders them anew.
_MARK = """
try {
  const page = await import(ENDPOINT + "/answers.js");
  page.record(PERSON, CONSENT);
  page[STEP](SELECTOR, TOKEN);
  page.thumbs(SELECTOR, UP, DOWN);
  return true;
} catch {
  return false;
}
"""
_TEXT = """
try {
  const page = await import(ENDPOINT + "/answers.js");
  return await page.textOf(SELECTOR);
} catch {
  return null;
}
"""
_FORGET = """
if (globalThis.ifllm) {
  const page = await import(ENDPOINT + "/answers.js");
  page.withdraw().catch(() => {}); // a refusal is reported as `ifllm:problem`
}
"""


class _Registered(BaseModel):
    """What the collector answers to a registration; a page in its place, such as a login, is not it."""

    token: str
    person_token: str


class _Failure(Exception):
    """Its text is for the log: nothing of a chat."""


class Filter:
    class Valves(BaseModel):
        endpoint: str = Field("https://collector.example.org/ifllm", description="The collector, as browsers reach it")
        server: str = Field("", description="The collector, as this server reaches it; empty: the same")
        key: str = Field("", description="IFLLM_COLLECT_API_KEY of the collector")
        consent: str = Field(
            "2026-11-29", description="Version of the user setting's text; one of the collector's --consent"
        )
        selector: str = Field("#message-{id} .markdown-prose", description="CSS selector of an answer's text")
        thumb_up: str = Field("#message-{id} button:has([d='M7 20L7 9'])", description="CSS selector of its thumb up")
        thumb_down: str = Field("#message-{id} button:has([d='M7 14.5L7 3.5'])", description="... of its thumb down")

    class UserValves(BaseModel):
        record_my_reading: bool = Field(
            False,
            description="Record how I read answers (where my mouse pointer is, what is on my screen, how much I copy, "
            "when I begin to type, my thumbs), with my questions and the answers, to improve the models. Switching it "
            "off stops recording and deletes what was recorded, at the next question; if the server was restarted "
            "since, ask its administrator to delete it. Temporary chats are not recorded.",
        )

    def __init__(self) -> None:
        self.valves = self.Valves()
        # By user: the token that deletes. Lost at a restart; then `ifllm collect delete USER_ID` is the way.
        self._deleting: dict[str, str] = {}

    async def inlet(
        self,
        body: dict[str, Any],
        __user__: dict[str, Any] | None = None,
        __metadata__: dict[str, Any] | None = None,
        __event_emitter__: Call | None = None,
    ) -> dict[str, Any]:
        """Before an answer. It returns the body as it came, whatever happens: a chat never fails because of this."""
        async with _forgiving(_PATIENCE_BEFORE):
            user, chat = __user__ or {}, __metadata__ or {}
            agreed = _agreed(user)
            if agreed is False:
                await self._forget(user["id"], __event_emitter__)
            elif agreed and __event_emitter__ and chat.get("message_id") and _is_kept(chat):
                await self._begin(body, user["id"], chat, __event_emitter__)
        return body

    async def outlet(
        self, body: dict[str, Any], __user__: dict[str, Any] | None = None, __event_call__: Call | None = None
    ) -> dict[str, Any]:
        """After an answer. It returns the body as it came, too."""
        async with _forgiving(_PATIENCE):
            user = __user__ or {}
            if _agreed(user) and __event_call__ and _is_kept(body):
                await self._complete(body, user["id"], __event_call__)
        return body

    async def _begin(self, body: dict[str, Any], user_id: str, chat: dict[str, Any], emit: Call) -> None:
        """Register an answer as empty, since every text begins with an empty one."""
        asked = self._asked(user_id, chat["chat_id"], chat["message_id"], body["model"], body["messages"])
        await emit(_unawaited(self._marking("begin", chat["message_id"], await self._register(asked, ""))))

    async def _complete(self, body: dict[str, Any], user_id: str, call: Call) -> None:
        *before, answer = body["messages"]
        if answer.get("role") != "assistant":
            raise _Failure("the chat does not end with it")
        selector = self.valves.selector.format(id=answer["id"])
        shown = await call(_script(_TEXT, ENDPOINT=self.valves.endpoint, SELECTOR=selector))
        text = shown.get("text") if isinstance(shown, dict) else None
        if not isinstance(text, str) or not text:
            raise _Failure("the page does not show it, was closed, or cannot load the script")
        if len(text) > _MAX_TEXT:
            raise _Failure(f"it has more than {_MAX_TEXT:,} characters")
        asked = self._asked(user_id, body["chat_id"], answer["id"], body["model"], before)
        if not shown.get("grew"):  # what was recorded of the text before does not count
            asked["question_id"] += ".complete"
        marking = self._marking("complete", answer["id"], await self._register(asked, text))
        if await call(marking) is not True:
            raise _Failure("the page cannot load the tracker")

    def _asked(
        self, user_id: str, chat_id: str, answer_id: str, model: str, before: list[dict[str, Any]]
    ) -> dict[str, str]:
        """What the collector is told of an answer, besides its text."""
        return {
            "person": user_id,
            "question_id": answer_id,
            "side": "left",
            "query": _storable(_question(before))[:_MAX_QUERY],
            "conversation": chat_id,
            "model": model[:200],
            "consent": self.valves.consent,
        }

    async def _register(self, asked: dict[str, str], text: str) -> _Registered:
        async with httpx.AsyncClient() as client:
            response = await client.post(
                f"{self._server}/v1/responses",
                json={**asked, "text": _storable(text)},
                headers={"X-Ifllm-Key": self.valves.key},
            )
        registered = _Registered.model_validate_json(response.raise_for_status().content)
        self._deleting[asked["person"]] = registered.person_token
        return registered

    def _marking(self, step: str, answer_id: str, registered: _Registered) -> dict[str, Any]:
        """The event by which the page marks an answer that begins, or is complete."""
        valves = self.valves
        selectors = {"SELECTOR": valves.selector, "UP": valves.thumb_up, "DOWN": valves.thumb_down}
        return _script(
            _MARK,
            STEP=step,
            TOKEN=registered.token,
            PERSON=registered.person_token,
            ENDPOINT=valves.endpoint,
            CONSENT=valves.consent,
            **{name: selector.format(id=answer_id) for name, selector in selectors.items()},
        )

    @property
    def _server(self) -> str:
        return self.valves.server or self.valves.endpoint

    async def _forget(self, user_id: str, emit: Call | None) -> None:
        """Have a page that records delete everything of a user, and delete what this process has registered of them."""
        if emit is not None:
            await emit(_unawaited(_script(_FORGET, ENDPOINT=self.valves.endpoint)))
        if token := self._deleting.get(user_id):
            async with httpx.AsyncClient() as client:
                url = f"{self._server}/v1/people/me"
                response = await client.delete(url, headers={"Authorization": f"Bearer {token}"})
            if response.status_code not in (204, 401):
                raise _Failure(f"the collector answered {response.status_code}")
            self._deleting.pop(user_id, None)
            if response.status_code == 401:
                raise _Failure(f"the token that deletes has expired: run ifllm collect delete {user_id}")


@asynccontextmanager
async def _forgiving(seconds: float) -> AsyncIterator[None]:
    """Log what fails, or takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except Exception as error:
        _log.warning("ifllm: an answer was not recorded, or none deleted (%s)", _reason(error))


def _agreed(user: dict[str, Any]) -> bool | None:
    """None if that cannot be read: then nothing is recorded, and nothing deleted."""
    return getattr(user.get("valves"), "record_my_reading", None)


def _is_kept(chat: dict[str, Any]) -> bool:
    return not str(chat.get("chat_id")).startswith(_UNSAVED)


def _question(messages: list[dict[str, Any]]) -> str:
    """The text of the last question, without its images and files; "" where there is none."""
    question = next((message for message in reversed(messages) if message.get("role") == "user"), {})
    content = question.get("content")
    parts = content if isinstance(content, list) else [{"text": content}]
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _storable(text: str) -> str:
    """Without what neither UTF-8 nor a database holds; a replacement is one code point for one."""
    return re.sub("[\0\ud800-\udfff]", "\N{REPLACEMENT CHARACTER}", text)


def _reason(error: Exception) -> str:
    """What is logged of an error."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"the collector answered {error.response.status_code}"
    return str(error) if isinstance(error, _Failure) else type(error).__name__


def _script(code: str, **values: str) -> dict[str, Any]:
    """An event that runs code with constants: each is a JSON string, so that no text of a model becomes code."""
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    return {"type": "execute", "data": {"code": constants + code}}


def _unawaited(script: dict[str, Any]) -> dict[str, Any]:
    """The same, for which Open WebUI does not wait.

    When a script ends, the page puts back the message as it was when the script began, and what came meanwhile of an
    answer is not shown.
    """
    return {**script, "data": {"code": f"(async () => {{ {script['data']['code']} }})();"}}
