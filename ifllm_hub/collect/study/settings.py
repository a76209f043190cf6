"""The settings of a study: its models, its protocol, and what the consent text says."""

from dataclasses import dataclass
from pathlib import Path

from ifllm_hub.collect import CONSENT, NOBODY
from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.study.models import DEFAULT_MODELS
from ifllm_hub.collect.study.pages import Consent
from ifllm_hub.collect.study.state import PROTOCOLS
from ifllm_hub.errors import IfllmError

TOPICS = ("Volcanoes", "Sleep", "The history of bread", "Honey bees", "Glaciers", "The printing press", "Jazz", "Tides")


@dataclass(frozen=True)
class StudySettings:
    """Settings of a study.

    Attributes:
        collector: where it stores. Its `origins` need not name the study's own address.
        models: see `models.model_of`.
        protocol: one of `state.PROTOCOLS`.
        topics: to choose from.
        camera: file of the npm package `camera.PACKAGE`; None: no camera.
        camera_required: whether people without a camera, or who do not want to use theirs, cannot take part.
        questionnaire: whether to ask for `state.QUESTIONNAIRE`; every question of it is optional.
        title: of the page.
        consent_version, purpose, shared_with, contact: see `pages.Consent`.
    """

    collector: Settings
    models: tuple[str, ...] = DEFAULT_MODELS
    protocol: str = "paper"
    topics: tuple[str, ...] = TOPICS
    camera: Path | None = None
    camera_required: bool = False
    questionnaire: bool = True
    title: str = "How do you read answers?"
    consent_version: str = CONSENT
    purpose: str = "to learn how people read, and to improve language models by it"
    shared_with: str = NOBODY
    contact: str = ""

    @property
    def consent(self) -> Consent:
        days = self.collector.retention_days
        camera = self.camera is not None
        return Consent(self.consent_version, self.purpose, self.shared_with, self.contact, days, camera)

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise IfllmError(f"{self.protocol!r}: no such protocol. Choose one of {', '.join(PROTOCOLS)}.")
        if self.camera_required and self.camera is None:
            raise IfllmError("A study that requires a camera needs the package that finds faces (--camera).")
        if not self.topics:
            raise IfllmError("A study needs at least one topic.")
        if not self.contact.strip():
            raise IfllmError("The consent text must say who is responsible, and how to reach them (--contact).")
        if self.collector.dataset_repo is not None and self.shared_with == NOBODY:
            raise IfllmError(
                f"What is collected would go to {self.collector.dataset_repo}, but the consent text says that it is "
                f"shared with nobody. Say with whom (--shared-with), in the words that participants will read."
            )
