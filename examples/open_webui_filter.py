"""
title: ifllm reading recorder
description: Records where the mouse pointer is over the answers, for users who switched it on.
requirements: httpx
"""

# A filter function for Open WebUI (Admin panel, Functions). It asks the page for the answer's text as it is rendered,
# registers that with an ifllm collector, and has the page mark the answer and start the tracker.

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from pydantic import BaseModel, Field

Call = Callable[[dict[str, Any]], Awaitable[Any]]

_log = logging.getLogger(__name__)
# How long an answer waits for the collector and the page, seconds: a tab may be closed, and a script that fails in a
# page is not answered at all.
_PATIENCE = 10.0
# Code points, as the collector has it: an answer that is longer is refused, a question is cut.
_MAX_TEXT, _MAX_QUERY = 32_767, 100_000
# Chats of which Open WebUI keeps nothing, so nothing is recorded either.
_UNSAVED = ("temporary:", "local:", "channel:")

_TEXT = "return document.querySelector(SELECTOR)?.textContent ?? null;"
# One tracker a page. An answer that is rendered anew loses its mark, and is not recorded from then on.
_MARK = """
const answer = document.querySelector(SELECTOR);
if (!answer || answer.textContent !== TEXT) return false;
window.ifllm ??= import(ENDPOINT + "/ifllm.js").then(({ createTracker }) => {
  const tracker = createTracker({ endpoint: ENDPOINT, person: PERSON, consentVersion: CONSENT });
  tracker.grantConsent();
  return tracker;
});
answer.dataset.ifllmResponse = TOKEN;
try {
  await window.ifllm;
} catch {
  delete window.ifllm; // the next answer tries again
  return false;
}
return true;
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
            "2026-11-01", description="Version of the user setting's text; one of the collector's --consent"
        )
        selector: str = Field("#message-{id} .markdown-prose", description="CSS selector of an answer's text")

    class UserValves(BaseModel):
        record_my_reading: bool = Field(
            False,
            description="Record where my mouse pointer is over the answers, with my questions, to improve the models. "
            "Switching it off stops recording and deletes what was recorded, at the next answer; if the server was "
            "restarted since, ask its administrator to delete it. Temporary chats are not recorded.",
        )

    def __init__(self) -> None:
        self.valves = self.Valves()
        # By user: the token that deletes. Lost at a restart; then `ifllm collect delete USER_ID` is the way.
        self._deleting: dict[str, str] = {}

    async def outlet(
        self, body: dict[str, Any], __user__: dict[str, Any] | None = None, __event_call__: Call | None = None
    ) -> dict[str, Any]:
        """After an answer. It returns the body as it came, whatever happens: a chat never fails because of this."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._follow(body, __user__ or {}, __event_call__)
        except Exception as error:
            _log.warning("ifllm: an answer was not recorded, or none deleted (%s)", _reason(error))
        return body

    async def _follow(self, body: dict[str, Any], user: dict[str, Any], call: Call | None) -> None:
        """Record an answer, or delete, as the user has it; who cannot be asked keeps what there is."""
        agreed = getattr(user.get("valves"), "record_my_reading", None)
        if agreed is False:
            await self._delete(user["id"])
        elif agreed and call is not None and not str(body.get("chat_id")).startswith(_UNSAVED):
            await self._record(body, user["id"], call)

    async def _record(self, body: dict[str, Any], user_id: str, call: Call) -> None:
        *before, answer = body["messages"]
        if answer.get("role") != "assistant":
            raise _Failure("the chat does not end with it")
        selector = self.valves.selector.format(id=answer["id"])
        text = await call({"type": "execute", "data": {"code": _filled(_TEXT, SELECTOR=selector)}})
        if not isinstance(text, str) or not text:
            raise _Failure("the page does not show it, or was closed")
        if len(text) > _MAX_TEXT:
            raise _Failure(f"it has more than {_MAX_TEXT:,} characters")
        registration = {
            "person": user_id,
            "question_id": answer["id"],
            "side": "left",
            "text": _storable(text),
            "query": _storable(_asked(before))[:_MAX_QUERY],
            "conversation": body["chat_id"],
            "model": body["model"][:200],
            "consent": self.valves.consent,
        }
        async with httpx.AsyncClient() as client:
            url = f"{self._server}/v1/responses"
            response = await client.post(url, json=registration, headers={"X-Ifllm-Key": self.valves.key})
        registered = _Registered.model_validate_json(response.raise_for_status().content)
        self._deleting[user_id] = registered.person_token
        code = _filled(
            _MARK,
            SELECTOR=selector,
            TEXT=text,
            TOKEN=registered.token,
            PERSON=registered.person_token,
            ENDPOINT=self.valves.endpoint,
            CONSENT=self.valves.consent,
        )
        if await call({"type": "execute", "data": {"code": code}}) is not True:
            raise _Failure("the page shows another by now, or cannot load the tracker")

    @property
    def _server(self) -> str:
        return self.valves.server or self.valves.endpoint

    async def _delete(self, user_id: str) -> None:
        """Delete what this process has registered of a user; their page's tracker is refused then, and ends."""
        if token := self._deleting.get(user_id):
            async with httpx.AsyncClient() as client:
                url = f"{self._server}/v1/people/me"
                response = await client.delete(url, headers={"Authorization": f"Bearer {token}"})
            if response.status_code not in (204, 401):
                raise _Failure(f"the collector answered {response.status_code}")
            self._deleting.pop(user_id, None)
            if response.status_code == 401:
                raise _Failure(f"the token that deletes has expired: run ifllm collect delete {user_id}")


def _asked(messages: list[dict[str, Any]]) -> str:
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


def _filled(code: str, **values: str) -> str:
    """Code with constants in front: a value is a JSON string, so that no text of a model becomes code."""
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    return constants + code
