"""The study as a web app: Gradio pages and the collector's router in one FastAPI app."""

from dataclasses import replace
from importlib.resources import files

from fastapi import FastAPI

from ifllm_hub.collect.server.app import bare_app, run_app
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.server.gate import Gate
from ifllm_hub.collect.server.router import create_router
from ifllm_hub.collect.study.camera import camera_router
from ifllm_hub.collect.study.flow import Study, with_camera
from ifllm_hub.collect.study.models import model_of
from ifllm_hub.collect.study.settings import StudySettings
from ifllm_hub.collect.study.state import PROTOCOLS


def create_study_app(settings: StudySettings, study: Study | None = None) -> FastAPI:
    """The study's pages at `/`, the collector's endpoints under its prefix.

    Args:
        study: over the collector's store; None: created from the settings.

    Raises:
        IfllmError: a spec names no model, the camera's package is another, or the store or its secrets cannot be
            opened.
    """
    import gradio as gr

    from ifllm_hub.collect.study.blocks import StudyBlocks, system_theme

    ours = study or create_study(settings)
    app = bare_app(settings.title)
    app.add_middleware(Gate, settings=settings.collector)
    app.include_router(create_router(settings.collector, ours.collector))
    if settings.camera is not None:
        app.include_router(camera_router(settings.collector.prefix, settings.camera))
    static = files("ifllm_hub.collect") / "static"
    return gr.mount_gradio_app(
        app,
        StudyBlocks(settings, ours).blocks,
        path="/",
        head=f'<script type="module">{(static / "study.js").read_text()}</script>',
        css=(static / "study.css").read_text(),
        theme=system_theme(),
        footer_links=[],
        ssr_mode=False,
        show_error=False,
        app_kwargs={"openapi_url": None},
    )


def create_study(settings: StudySettings) -> Study:
    """The study's flow over a collector's store.

    Raises:
        IfllmError: see `create_study_app`.
    """
    models = [model_of(spec) for spec in settings.models]
    version = settings.consent_version
    versions = (version,) if settings.camera is None else (version, with_camera(version))
    knowing = replace(settings.collector, consents=(*settings.collector.consents, *versions))
    return Study(Collector(knowing), models, PROTOCOLS[settings.protocol], version)


def run_study(settings: StudySettings, host: str = "127.0.0.1", port: int = 7860, behind_proxy: bool = False) -> None:
    """Run the study until it is stopped.

    Args:
        behind_proxy: see `ifllm_hub.collect.server.app.serve`.

    Raises:
        IfllmError: see `create_study_app`.
    """
    run_app(create_study_app(settings), host, port, behind_proxy)
