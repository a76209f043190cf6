"""A page with a collector of its own, both behind something that a test can put in front of them."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.responses import HTMLResponse, Response

from ifllm_hub.collect import CONSENT
from ifllm_hub.collect.server.app import create_app
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.store.store import now_ms
from ifllm_hub.collect.tokens import PersonToken, ResponseToken, Signer
from tests.collect.store.processes import free_port
from tests.waiting import until

TEXT = "The tides are moved by the moon."
SUBPATH = "/lab"


@dataclass
class Front:
    """The ASGI app: pages by path, what stands in front of the collector by path, and the collector.

    What is asked under `SUBPATH` is asked of the collector without it.
    """

    app: Any
    pages: dict[str, Response] = field(default_factory=dict)
    instead: dict[str, Response] = field(default_factory=dict)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        given = self.pages.get(path) or self.instead.get(path)
        if given is not None:
            await given(scope, receive, send)
            return
        await self.app({**scope, "path": path.removeprefix(SUBPATH)} if path else scope, receive, send)


@dataclass
class Place:
    """Where pages are put, and what their tokens are signed with."""

    collector: Collector
    front: Front
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def token(self, text: str = TEXT, person: str = "ada", seconds: int = 60, key: bytes | None = None) -> str:
        """Of an answer, valid for so many seconds.

        Args:
            key: None: the collector's.
        """
        now, sha256 = now_ms(), hashlib.sha256(text.encode()).hexdigest()
        signer = self.collector.signer if key is None else Signer([key])
        return signer.sign(ResponseToken("r", "q", "left", sha256, len(text), person, now, now + 1_000 * seconds))

    def person_token(self, person: str = "ada") -> str:
        return self.collector.signer.sign(PersonToken(person, now_ms(), now_ms() + 60_000))

    def put(
        self,
        answer: str = TEXT,
        token: str | None = None,
        person: str | None = None,
        consent: str = CONSENT,
        endpoint: str = "/ifllm",
        script: str = "/ifllm/ifllm.js",
        more: str = "",
        path: str = "/page",
        policy: str = "",
    ) -> str:
        """Put a page with one answer there; its address.

        Args:
            answer: HTML of the answer.
            token, person: None: good ones.
            more: HTML at its end.
            policy: its Content-Security-Policy.
        """
        token, person = self.token() if token is None else token, self.person_token() if person is None else person
        html = (
            f'<!doctype html><meta charset="utf-8"><p id="one" data-ifllm-response="{token}">{answer}</p>'
            f'<script type="module" src="{script}" data-endpoint="{endpoint}" data-person="{person}" '
            f'data-consent="{consent}"></script>{more}'
        )
        headers = {"Content-Security-Policy": policy} if policy else {}
        self.front.pages[path] = HTMLResponse(html, headers=headers)
        return self.url + path


@contextmanager
def opened(folder: Path) -> Iterator[Place]:
    settings = Settings(folder)
    collector, port = Collector(settings), free_port()
    front = Front(create_app(settings, collector))
    server = uvicorn.Server(uvicorn.Config(front, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield Place(collector, front, port)
    finally:
        server.should_exit = True
        thread.join()
