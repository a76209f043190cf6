"""The collector as a standalone app: `ifllm collect serve`."""

from pathlib import Path

from fastapi import FastAPI

from ifllm_hub import __version__
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.server.router import create_router
from ifllm_hub.collect.settings import SECRETS_FILE, Settings


def create_app(settings: Settings, collector: Collector | None = None) -> FastAPI:
    """An app with only the collector's router.

    Args:
        collector: with the same settings; None: created from them.

    Raises:
        IfllmError: see `create_router`.
    """
    app = bare_app("ifllm collector")
    app.include_router(create_router(settings, collector))
    return app


def bare_app(title: str) -> FastAPI:
    """An app without FastAPI's documentation pages, which load scripts from another host. `openapi()` is its schema."""
    return FastAPI(title=title, version=__version__, openapi_url=None)


def serve(settings: Settings, host: str = "127.0.0.1", port: int = 8765, behind_proxy: bool = False) -> None:
    """Run the collector until it is stopped, with SQLite in one process: it has one writer, which is enough.

    Args:
        behind_proxy: trust the `X-Forwarded-For` of a proxy on this machine, for the rate limits; addresses are never
            logged or stored.

    Raises:
        IfllmError: see `create_router`.
    """
    run_app(create_app(settings), host, port, behind_proxy)


def run_app(app: FastAPI, host: str, port: int, behind_proxy: bool) -> None:
    """Run one of this package's apps until it is stopped; see `serve`. Requests are not logged."""
    import uvicorn

    from ifllm_hub.collect.server.http_timeout import PatientProtocol

    uvicorn.run(
        app,
        http=PatientProtocol,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=behind_proxy,
        timeout_graceful_shutdown=10,
    )


def startup_message(settings: Settings, host: str, port: int) -> str:
    """What the command prints before it serves."""
    pages = ", ".join(settings.origins) or "no page yet (--origin)"
    key: str | Path = settings.folder / SECRETS_FILE
    return (
        f"collector: http://{host}:{port}{settings.prefix}\npages that may report: {pages}\n"
        f"consent to: {', '.join(settings.consents)}\nsecrets: {key}"
    )
