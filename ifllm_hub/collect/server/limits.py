"""How much one client may send: bytes per request, requests per second."""

import asyncio
import math
import time
from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Any

from starlette.requests import Request

from ifllm_hub.collect.server.problems import Problem
from ifllm_hub.collect.settings import Rate

# How many clients are remembered; those unseen longest are dropped and start again with a full bucket.
_REMEMBERED = 50_000
_TYPES = ("application/json", "text/plain")


class Buckets:
    """Token buckets by key, in the memory of one process: who was limited is never stored."""

    # Not the library `limits` (5.8): it has windows instead of buckets, uses wall-clock time, keeps every key until its
    # window ends, however many there are, and takes five times as long.
    def __init__(self, rate: Rate):
        self._rate = rate
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now: float | None = None) -> None:
        """Count one request.

        Args:
            now: seconds of a clock that never goes back.

        Raises:
            Problem: there are too many; it says when the next one may come.
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


def network_of(request: Any) -> str:
    """The key of a limit by network address: an IPv4 address, or the /64 network of an IPv6 one, because whoever has
    one of its addresses has them all.

    Args:
        request: Starlette's or Gradio's.
    """
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host  # a name instead of an address, such as of a Unix socket
    if not isinstance(address, IPv6Address):
        return host
    return str(address.ipv4_mapped or IPv6Network((int(address), 64), strict=False))


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The body of a request, never more than `limit` bytes of it, before anything is parsed.

    Args:
        seconds: the time within which all of it must arrive.

    Raises:
        Problem: it is too large, too slow, or of another content type.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _TYPES:
        raise Problem("wrong_type")
    said = request.headers.get("content-length", "0")
    if not said.isdecimal() or int(said) > limit:
        raise Problem("too_large")
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    raise Problem("too_large")
    except TimeoutError:
        raise Problem("too_slow") from None
    return bytes(body)
