"""The collector as a FastAPI router: mount it in any app with `app.include_router(create_router(settings))`."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ifllm_hub.collect import wire
from ifllm_hub.collect.export.upkeep import keep_up
from ifllm_hub.collect.server.collector import REFUSALS, Collector
from ifllm_hub.collect.server.limits import network_of
from ifllm_hub.collect.server.problems import Problem, declared
from ifllm_hub.collect.settings import ANSWERS, DIAGNOSIS, SCRIPT, Settings
from ifllm_hub.collect.store.refusals import Full
from ifllm_hub.collect.store.store import now_ms, seconds_left_of_day

_log = logging.getLogger(__name__)
_Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_CHECK = "/v1/check"
_BODY = ("malformed", "too_large", "too_slow", "wrong_type")
_TOKEN = ("bad_token", "expired_token")


def create_router(settings: Settings, collector: Collector | None = None) -> APIRouter:
    """The collector's endpoints under `settings.prefix`; the collector is closed when the app stops.

    Upkeep (retention, removing people from exports) runs when the app starts and daily.

    Args:
        collector: with the same settings, for an app that registers answers itself (`Collector.register`).

    Raises:
        IfllmError: see `Collector`.
    """
    ours = collector or Collector(settings)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        upkeep = asyncio.create_task(keep_up(ours.store, settings.retention_days))
        try:
            yield
        finally:
            upkeep.cancel()
            await asyncio.to_thread(ours.close)

    router = APIRouter(prefix=settings.prefix, route_class=_guarded(ours), lifespan=lifespan, tags=["collector"])

    def add(
        method: str,
        path: str,
        endpoint: Callable[..., Any],
        problems: tuple[str, ...] = (),
        takes: type[BaseModel] | None = None,
        header: str | None = None,
        done: int = 200,
        page: type[Response] = JSONResponse,
    ) -> None:
        """Endpoints read their bodies themselves, within limits, so what they accept is declared here."""
        extra: dict[str, Any] = {"requestBody": wire.body_schema(takes)} if takes else {}
        if header:
            extra["parameters"] = [{"name": header, "in": "header", "schema": {"type": "string"}}]
        router.add_api_route(
            path,
            endpoint,
            methods=[method],
            status_code=done,
            responses=declared(*problems),
            openapi_extra=extra,
            response_model=None,
            response_class=page,
        )

    add(
        "POST",
        "/v1/batches",
        ours.batches,
        (*_BODY, *_TOKEN, "conflict", "mixed_people", "unknown_consent"),
        wire.Batch,
        done=202,
    )
    add("POST", "/v1/ratings", ours.ratings, (*_BODY, *_TOKEN, "unknown_answer"), wire.Rating, done=202)
    add("POST", "/v1/score", ours.score, (*_BODY, *_TOKEN, "unknown_answer", "scoring"), wire.Asked)
    add(
        "POST",
        "/v1/responses",
        ours.responses,
        (*_BODY, "bad_key", "unknown_consent", "other_arm", "withdrawn"),
        wire.Registration,
        "X-Ifllm-Key",
    )
    add("POST", "/v1/people", ours.people, (*_BODY, "bad_key"), wire.Reader, "X-Ifllm-Key")
    add("DELETE", "/v1/people/me", ours.forget, _TOKEN, header="Authorization", done=204)
    add("POST", _CHECK, ours.check, _BODY, wire.Check)
    add("GET", "/v1/health", ours.health)
    add("GET", "/metrics", ours.metrics_page, ("bad_key",), header="Authorization", page=PlainTextResponse)
    for name, script in ((SCRIPT, ours.script), (DIAGNOSIS, ours.diagnosis), (ANSWERS, ours.answers)):
        router.add_api_route(f"/{name}", script, methods=["GET", "HEAD"], response_model=None, include_in_schema=False)
    router.add_api_route("/v1/health", ours.health, methods=["HEAD"], response_model=None, include_in_schema=False)
    router.add_api_route("/{path:path}", _preflight, methods=["OPTIONS"], include_in_schema=False)
    return router


async def _preflight() -> Response:
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": "GET, POST, DELETE",
            "Access-Control-Allow-Headers": "Content-Type, Authorization",
            "Access-Control-Max-Age": "600",
        },
    )


def _guarded(collector: Collector) -> type[APIRoute]:
    """What holds for every endpoint: only allowed origins, limited rates, and errors that reveal nothing."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> _Handler:
            handler = super().get_route_handler()
            route = self.path_format

            async def guarded(request: Request) -> Response:
                started = time.perf_counter()
                response = await _answer(collector, handler, request)
                origin = request.headers.get("origin")
                if origin in collector.settings.origins:
                    # With credentials, because browsers send beacons with them and then require this header.
                    response.headers["Access-Control-Allow-Origin"] = origin
                    response.headers["Access-Control-Allow-Credentials"] = "true"
                elif route.endswith(_CHECK):
                    # So that a page can read that it is refused, which is all that it is told.
                    response.headers["Access-Control-Allow-Origin"] = "*"
                response.headers["Vary"] = "Origin"
                response.headers["X-Content-Type-Options"] = "nosniff"
                collector.metrics.request(route, response.status_code, time.perf_counter() - started)
                return response

            return guarded

    return Guarded


def _may_report(request: Request, origins: Collection[str]) -> bool:
    """Whether a request is from no page, from one of the settings' origins, or from a page that this server served.

    The latter is recognized under whichever address it was opened (another name of the machine, an address in its
    network, a tunnel): the browser says so (on HTTPS and localhost), or the page's host is the one that the request was
    sent to, according to the request or to a proxy. A page of another origin can send none of the three.
    """
    headers = request.headers
    origin = headers.get("origin")
    if origin is None or origin in origins or headers.get("sec-fetch-site") == "same-origin":
        return True
    scheme, _, host = origin.partition("://")
    return scheme in ("http", "https") and host != "" and host in (headers.get("host"), headers.get("x-forwarded-host"))


async def _answer(collector: Collector, handler: _Handler, request: Request) -> Response:
    try:
        if not _may_report(request, collector.settings.origins):
            collector.note_refusal(request.headers["origin"])
            raise Problem("origin_not_allowed")
        if not collector.has_key(request):
            collector.addresses.take(network_of(request))
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except wire.Malformed as error:
        return Problem("malformed", str(error)).response()
    except tuple(REFUSALS) as refusal:
        return Problem(REFUSALS[type(refusal)]).response()
    except Full:
        return Problem("quota_reached", retry_after=seconds_left_of_day(now_ms())).response()
    except ClientDisconnect:
        return Response(status_code=400)
    except SQLAlchemyError:
        _log.exception("the store failed")
        return Problem("unavailable", retry_after=5).response()
    except Exception:
        _log.exception("a request failed")
        return Problem("failed").response()
