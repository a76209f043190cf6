"""
title: ifllm reading recorder
description: Records where the mouse pointer is over the answers, for users who switched it on.
requirements: httpx
"""

# A filter function for Open WebUI (Admin panel, Functions). It asks the page for the answer's text as it is rendered,
# registers that with an ifllm collector, and has the page mark the answer and start the tracker.

import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from pydantic import BaseModel, Field

Call = Callable[[dict[str, Any]], Awaitable[Any]]

_TEXT = "return document.querySelector(SELECTOR)?.textContent ?? null;"
# One tracker a page. An answer that is rendered anew loses its mark, and is not recorded from then on.
_MARK = """
const answer = document.querySelector(SELECTOR);
if (!answer || answer.textContent !== TEXT) return false;
answer.dataset.ifllmResponse = TOKEN;
window.ifllm ??= import(ENDPOINT + "/ifllm.js").then(({ createTracker }) => {
  const tracker = createTracker({ endpoint: ENDPOINT, person: PERSON, consentVersion: CONSENT });
  tracker.grantConsent();
  return tracker;
});
await window.ifllm;
return true;
"""


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
            "restarted since, ask its administrator to delete it.",
        )

    def __init__(self) -> None:
        self.valves = self.Valves()
        # By user: the token that deletes. Lost at a restart; then `ifllm collect delete USER_ID` is the way.
        self._deleting: dict[str, str] = {}

    async def outlet(
        self, body: dict[str, Any], __user__: dict[str, Any] | None = None, __event_call__: Call | None = None
    ) -> dict[str, Any]:
        """After an answer. It returns the body as it came, whatever happens: a chat never fails because of this."""
        if __user__ is None or __event_call__ is None:
            return body
        try:
            await self._record(body, __user__, __event_call__)
        except (httpx.HTTPError, KeyError, TypeError) as error:
            print(f"ifllm: an answer was not recorded ({type(error).__name__})")  # noqa: T201
        return body

    async def _record(self, body: dict[str, Any], user: dict[str, Any], call: Call) -> None:
        agreed = getattr(user.get("valves"), "record_my_reading", False)
        if not agreed:
            await self._delete(user["id"])
            return
        query, answer = body["messages"][-2], body["messages"][-1]
        selector = self.valves.selector.format(id=answer["id"])
        text = await call({"type": "execute", "data": {"code": _filled(_TEXT, SELECTOR=selector)}})
        if not isinstance(text, str) or not text:
            return
        registration = {
            "person": user["id"],
            "question_id": answer["id"],
            "side": "left",
            "text": text,
            "query": query["content"],
            "conversation": body["chat_id"],
            "model": body["model"],
            "consent": self.valves.consent,
        }
        async with httpx.AsyncClient(timeout=10) as client:
            url = f"{self._server}/v1/responses"
            response = await client.post(url, json=registration, headers={"X-Ifllm-Key": self.valves.key})
            response.raise_for_status()
        registered = response.json()
        self._deleting[user["id"]] = registered["person_token"]
        code = _filled(
            _MARK,
            SELECTOR=selector,
            TEXT=text,
            TOKEN=registered["token"],
            PERSON=registered["person_token"],
            ENDPOINT=self.valves.endpoint,
            CONSENT=self.valves.consent,
        )
        await call({"type": "execute", "data": {"code": code}})

    @property
    def _server(self) -> str:
        return self.valves.server or self.valves.endpoint

    async def _delete(self, user_id: str) -> None:
        """Delete what this process has registered of a user; their page's tracker is refused then, and ends."""
        if token := self._deleting.get(user_id):
            async with httpx.AsyncClient(timeout=10) as client:
                url = f"{self._server}/v1/people/me"
                response = await client.delete(url, headers={"Authorization": f"Bearer {token}"})
                response.raise_for_status()
            del self._deleting[user_id]


def _filled(code: str, **values: str) -> str:
    """Code with constants in front: a value is a JSON string, so that no text of a model becomes code."""
    constants = "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    return constants + code
