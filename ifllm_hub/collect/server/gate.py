"""What guards Gradio's pages: it limits the rate of requests and the size of bodies, and refuses files."""

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ifllm_hub.collect.server.limits import Buckets, network_of, read_body
from ifllm_hub.collect.server.problems import Problem
from ifllm_hub.collect.settings import SCRIPT, Settings

_API = "/gradio_api/"
# What a page sends: events and their end. Gradio accepts more, such as files, which it stores for anybody.
_TAKEN = ("queue/join", "run/predict", "cancel", "reset")
# Reading this address writes a page's content, tokens included, to disk.
_SHARED = "deep_link"
# Bytes; a chat sends the conversation so far along with each message.
_MAX_EVENT = 4 * 1024 * 1024


class Gate:
    """ASGI middleware for an app with Gradio pages and the collector's router, which has limits of its own.

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
        """The `receive` from which the app gets the request's body.

        Raises:
            Problem: the request is refused.
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
