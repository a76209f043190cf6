"""The study as a web app: Gradio pages and the collector's router in one FastAPI app."""

from dataclasses import dataclass, replace
from importlib.resources import files

from fastapi import FastAPI

from ifllm_hub.collect.defaults import CONSENT, NOBODY
from ifllm_hub.collect.server.app import bare_app, run_app
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.server.gate import Gate
from ifllm_hub.collect.server.router import create_router
from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.study.flow import Study
from ifllm_hub.collect.study.models import DEFAULT_MODELS, model_of
from ifllm_hub.collect.study.pages import Consent
from ifllm_hub.collect.study.state import PROTOCOLS
from ifllm_hub.errors import IfllmError

TOPICS = ("Volcanoes", "Sleep", "The history of bread", "Honey bees", "Glaciers", "The printing press", "Jazz", "Tides")


@dataclass(frozen=True)
class StudySettings:
    """Settings of a study.

    Attributes:
        collector: where it stores. Its `origins` need not name the study's own address.
        models: see `study_models.model_of`.
        protocol: one of `study_state.PROTOCOLS`.
        topics: to choose from.
        questionnaire: whether to ask for `study_state.QUESTIONNAIRE`; every question of it can be left out.
        title: of the page.
        consent_version, purpose, shared_with, contact: see `study_pages.Consent`.
    """

    collector: Settings
    models: tuple[str, ...] = DEFAULT_MODELS
    protocol: str = "paper"
    topics: tuple[str, ...] = TOPICS
    questionnaire: bool = True
    title: str = "How do you read answers?"
    consent_version: str = CONSENT
    purpose: str = "to learn how people read, and to improve language models by it"
    shared_with: str = NOBODY
    contact: str = ""

    @property
    def consent(self) -> Consent:
        days = self.collector.retention_days
        return Consent(self.consent_version, self.purpose, self.shared_with, self.contact, days)

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise IfllmError(f"{self.protocol!r}: no such protocol. Choose one of {', '.join(PROTOCOLS)}.")
        if not self.topics:
            raise IfllmError("A study needs at least one topic.")
        if not self.contact.strip():
            raise IfllmError("The consent text must say who is responsible, and how to reach them (--contact).")
        if self.collector.dataset_repo is not None and self.shared_with == NOBODY:
            raise IfllmError(
                f"What is collected would go to {self.collector.dataset_repo}, and the consent text says that it is "
                "shared with nobody. Say with whom (--shared-with), as the people will read it."
            )


def create_study_app(settings: StudySettings, study: Study | None = None) -> FastAPI:
    """The study's pages at `/`, the collector's addresses under its prefix.

    Args:
        study: over the collector's store; None: made from the settings.

    Raises:
        IfllmError: a model is none, or the store or its secrets cannot be opened.
    """
    import gradio as gr

    from ifllm_hub.collect.study.blocks import StudyBlocks, system_theme

    ours = study or create_study(settings)
    app = bare_app(settings.title)
    app.add_middleware(Gate, settings=settings.collector)
    app.include_router(create_router(settings.collector, ours.collector))
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
    knowing = replace(settings.collector, consents=(*settings.collector.consents, version))
    return Study(Collector(knowing), models, PROTOCOLS[settings.protocol], version)


def run_study(settings: StudySettings, host: str = "127.0.0.1", port: int = 7860, behind_proxy: bool = False) -> None:
    """Run the study until it is told to stop.

    Args:
        behind_proxy: see `ifllm_hub.collect.server.app.serve`.

    Raises:
        IfllmError: see `create_study_app`.
    """
    run_app(create_study_app(settings), host, port, behind_proxy)
