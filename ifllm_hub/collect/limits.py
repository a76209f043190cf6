"""How much one client may send: bytes a request, requests a second."""

import math
import time
from collections import OrderedDict

from starlette.requests import Request

from ifllm_hub.collect.problems import Problem
from ifllm_hub.collect.settings import Rate

# Of whom a bucket remembers; the longest unseen are forgotten, and start with a full one.
_REMEMBERED = 50_000
_TYPES = ("application/json", "text/plain")


class Buckets:
    """Token buckets by key, in memory: nothing of who was limited is ever stored."""

    def __init__(self, rate: Rate):
        self._rate = rate
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float | None = None) -> None:
        """Count one request.

        Args:
            now: seconds of a clock that never goes back.

        Raises:
            Problem: too many; it says when the next one may come.
        """
        now = time.monotonic() if now is None else now
        level, at = self._levels.pop(key, (self._rate.burst, now))
        level = min(self._rate.burst, level + (now - at) * self._rate.per_second)
        allowed = level >= 1
        self._levels[key] = (level - allowed, now)
        if len(self._levels) > _REMEMBERED:
            self._levels.popitem(last=False)
        if not allowed:
            raise Problem("too_many_requests", retry_after=math.ceil((1 - level) / self._rate.per_second))


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request, never more than `limit` bytes of it, before anything is parsed.

    Raises:
        Problem: it is larger, or of another content type.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _TYPES:
        raise Problem("wrong_type")
    said = request.headers.get("content-length", "0")
    if not said.isdecimal() or int(said) > limit:
        raise Problem("too_large")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise Problem("too_large")
    return bytes(body)
