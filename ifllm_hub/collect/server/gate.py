"""What stands before the pages of Gradio: requests at a limited rate, bodies of a limited size, and no files."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ifllm_hub.collect.server.limits import Buckets, network_of, read_body
from ifllm_hub.collect.server.problems import Problem
from ifllm_hub.collect.settings import SCRIPT, Settings

_API = "/gradio_api/"
# What a page sends: events and their end. Gradio takes more, such as files, which it stores for anybody.
_TAKEN = ("queue/join", "run/predict", "cancel", "reset")
# Written to the disk when it is read: what is in a page, tokens included.
_SHARED = "deep_link"
# A chat sends what was said so far along with each message, bytes.
_MAX_EVENT = 4 * 1024 * 1024


class Gate:
    """ASGI middleware for an app with pages of Gradio and the collector's router, which has limits of its own.

    Args:
        settings: of the collector.
    """

    def __init__(self, app: ASGIApp, settings: Settings):
        self._app, self._settings = app, settings
        self._collector = tuple(f"{settings.prefix}/{name}" for name in ("v1/", "metrics", SCRIPT))
        self._addresses = Buckets(settings.page_rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and not path.startswith(self._collector):
            request = Request(scope, receive)
            try:
                receive = await self._admitted(request, path)
            except Problem as problem:
                await problem.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _admitted(self, request: Request, path: str) -> Receive:
        """Where the app gets the request's body from.

        Raises:
            Problem: it is not let in.
        """
        reads = request.method in ("GET", "HEAD", "OPTIONS")
        _, api, name = path.rstrip("/").partition(_API)
        if name == _SHARED if reads else name not in _TAKEN:
            raise Problem("not_taken")
        if api:
            self._addresses.take(network_of(request))
        if reads:
            return request.receive
        body = await read_body(request, _MAX_EVENT, self._settings.body_seconds)
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return whole.pop() if whole else await request.receive()

        return receive
