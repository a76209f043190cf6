"""The state of a study: its rules, and where each participant is."""

import re
from dataclasses import dataclass, field
from typing import Literal

from ifllm_hub.collect import wire
from ifllm_hub.collect.study.models import AnsweringModel
from ifllm_hub.errors import IfllmError
from ifllm_hub.terms import Mode, Side

MAX_QUERY, MAX_SUMMARY = 4_000, 2_000

# Coarse bins only: an answer reveals no more than its bin, and none is exported.
QUESTIONNAIRE = {
    "age": ("18-29", "30-39", "40-49", "50-59", "60 or older"),
    "education": ("school", "bachelor", "master or higher", "other"),
    "chatbot_use": ("daily", "weekly", "less often", "never"),
}
SCALE = (1, 2, 3, 4, 5)


class NotYet(IfllmError):
    """The participant cannot do this now; the message is for them."""


@dataclass(frozen=True)
class Protocol:
    """Rules of a study.

    Attributes:
        mode: of every conversation; None: drawn for each.
        least_queries: before a conversation can be finished.
        least_seconds: likewise, since it began.
        bullet_share: how many of the turns ask for bullet points.
        max_tokens: of an answer.
        summary: whether the end asks what was learned.
    """

    mode: Mode | None
    least_queries: int
    least_seconds: float
    bullet_share: float
    max_tokens: int
    summary: bool


# `paper`: as on the site of the IFLLM study (https://huggingface.co/papers/2606.20482).
PROTOCOLS = {
    "paper": Protocol(None, 3, 240, 0.5, 500, True),
    "pairwise": Protocol("pairwise", 1, 0, 0.0, 500, False),
    "pointwise": Protocol("pointwise", 1, 0, 0.0, 500, False),
}


@dataclass
class DisplayedAnswer:
    """An answer on the page.

    Attributes:
        token: for the tracker; empty until the answer is registered.
        text: plain text, as much as there is so far.
    """

    model: AnsweringModel
    question_id: str
    response_id: str = ""
    token: str = ""
    text: str = ""


@dataclass
class Turn:
    """A query and its answers; `done` when they are complete, `broken` if one ended early."""

    query: str
    bullet_points: bool
    asked_at: int
    answers: dict[Side, DisplayedAnswer]
    done: bool = False
    broken: bool = False
    rated: bool = False


@dataclass
class Participant:
    """Where somebody is in the study.

    Attributes:
        code: identifies them; whoever has it can delete their data.
        token: with which their page deletes; empty until they agree.
        camera: whether they agreed to use their camera.
        started: on the study's clock, seconds; None before the conversation.
    """

    code: str
    state: Literal["new", "agreed", "chatting", "finished", "withdrawn"] = "new"
    token: str = ""
    camera: bool = False
    conversation: str = ""
    topic: str = ""
    mode: Mode = "pairwise"
    models: dict[Side, AnsweringModel] = field(default_factory=dict)
    started: float | None = None
    turns: list[Turn] = field(default_factory=list)
    asking: bool = False


def tidy(text: str) -> str:
    """An answer as it is shown, and stored: trimmed, runs of blank lines to one newline, as in the study.

    The result for a beginning of a text is a beginning of the result for all of it, so char indices stay valid.
    """
    return re.sub(r"\n\s*\n", "\n", text.replace("\0", "").replace("\r", "")).strip()[: wire.MAX_TEXT]
