"""What the study app shows, as HTML: every text by a person or a model is escaped, and none is rendered as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from ifllm_hub.collect.study.state import Protocol, Turn

LETTERS = {"left": "A", "right": "B"}
_CAMERA = (
    "<p>If you tick the second box, your camera is used, too, to estimate where you look. The picture is analyzed in "
    "this page, on your device; it never leaves the page and is never stored. We record where in an answer you seem to "
    "look (about 12 times a second), whether your eyes are in the middle of the picture, and how far off the estimate "
    "is when you look at a dot. The camera is on until you finish or stop, and your browser shows it.</p>"
)


@dataclass(frozen=True)
class Consent:
    """What the consent text says; see docs/collector.md for the template.

    Attributes:
        version: changes whenever the text does; stored with each consent and each batch.
        purpose: what the data is for.
        shared_with: who gets it.
        contact: who is responsible, and how to reach them.
        days: how long it is stored; None: until somebody deletes it.
        camera: whether people are also asked for their camera.
    """

    version: str
    purpose: str
    shared_with: str
    contact: str
    days: int | None
    camera: bool = False

    def html(self) -> str:
        kept = "until it is deleted" if self.days is None else f"for {self.days} days"
        return (
            "<h2>May we record how you read?</h2>"
            "<p>You will ask questions to language models and read their answers. While you read, we record where your "
            "mouse pointer is over the text of an answer (about 12 times a second), which part of an answer is on your "
            "screen, how large the window is, and when answers appear, when you copy (how many characters, not which), "
            "begin to type (not what) and rate, together with your questions, the answers and your ratings. We use it "
            f"{escape(self.purpose)}.</p>"
            '<p class="ifllm-touch">This device has no mouse pointer, so we only know which part of an answer is on '
            "your screen and where a finger touches it, and not where in it you read.</p>"
            f"{_CAMERA * self.camera}"
            f"<p>We do not record {'pictures or sound' if self.camera else 'your camera'}, your address, other pages, "
            "or keys you press. Please do not write anything personal into your questions.</p>"
            "<p>The way a pointer moves can tell people apart. What we record is personal data: we store it under a "
            f"pseudonym {kept}; it is shared with {escape(self.shared_with)}. Taking part is voluntary. You can stop "
            "at any time by “Stop and delete” at the bottom of the page, or later with your code below: what was "
            "recorded is then deleted, also from data sets we have written; copies that others made and models trained "
            "before are not undone.</p>"
            f'<p class="ifllm-small">Version {escape(self.version)}. Responsible: {escape(self.contact)}.</p>'
        )


def mark(state: str, endpoint: str, person: str, consent: str, key: str | None = None, camera: str = "") -> str:
    """An invisible element that tells study.js to start or end recording.

    Args:
        state: recording, finished or withdrawn.
        person: the token by which the page deletes.
        key: of a person who agreed by a box, which must still be ticked.
        camera: "optional" or "required" for a person who agreed to use theirs; "" for anybody else.
    """
    keyed = "" if key is None else f' data-ifllm-key="{escape(key)}"'
    seen = f' data-camera="{camera}"' if camera else ""
    return (
        f'<div hidden data-ifllm-study="{state}" data-endpoint="{escape(endpoint)}" data-person="{escape(person)}" '
        f'data-consent="{escape(consent)}"{keyed}{seen}></div>'
    )


def instructions(protocol: Protocol, topic: str) -> str:
    parts = [f"at least {protocol.least_queries} question{'s' * (protocol.least_queries != 1)}"]
    if protocol.least_seconds:
        parts.append(f"at least {_duration(protocol.least_seconds)}")
    return (
        f'<p class="ifllm-topic">{escape(topic)}</p>'
        "<p>Ask what you would like to learn about it, read the answers, and rate them. "
        '<b class="ifllm-mouse">While you read, please move the mouse pointer along with your eyes.</b> '
        '<b class="ifllm-touch">Please keep what you are reading in the middle of the screen.</b> '
        f"Take {' and '.join(parts)}; then choose “Finished”.</p>"
    )


def _duration(seconds: float) -> str:
    """In words: "4 minutes", "1 minute and 30 seconds"; a fraction of a second counts as one."""
    parts = zip(divmod(ceil(seconds), 60), ("minute", "second"), strict=True)
    return " and ".join(f"{count} {name}{'s' * (count != 1)}" for count, name in parts if count)


def answers(turn: Turn) -> str:
    """A query and its answers, marked for the tracker; the answers of earlier turns are in `history`."""
    columns = []
    for side, shown in turn.answers.items():
        name = f"Answer {LETTERS[side]}" if len(turn.answers) > 1 else "Answer"
        whole = " data-ifllm-complete" if turn.done else ""
        text = escape(shown.text)
        columns.append(
            f'<section class="ifllm-answer"><h3>{name}{"" if turn.done else " <i>…</i>"}</h3>'
            f'<div class="ifllm-text" data-ifllm-response="{escape(shown.token)}" '
            f'data-ifllm-stream="{escape(shown.question_id)}/{side}"{whole}>{text}</div></section>'
        )
    broken = '<p class="ifllm-small">An answer broke off. Please rate what is there.</p>' * turn.broken
    return f'<p class="ifllm-query">{escape(turn.query)}</p><div class="ifllm-answers">{"".join(columns)}</div>{broken}'


def history(turns: Sequence[Turn]) -> str:
    """Earlier turns, folded and not marked: only the reading of the latest answers is recorded."""
    if not turns:
        return ""
    shown = []
    for turn in turns:
        texts = "".join(f'<div class="ifllm-text">{escape(answer.text)}</div>' for answer in turn.answers.values())
        shown.append(f'<p class="ifllm-query">{escape(turn.query)}</p><div class="ifllm-answers">{texts}</div>')
    count = f"{len(turns)} earlier question{'s' * (len(turns) != 1)}"
    return f'<details class="ifllm-history"><summary>{count}</summary>{"".join(shown)}</details>'


def notice(text: str) -> str:
    return f'<p class="ifllm-notice" role="status">{escape(text)}</p>' if text else ""


def thanks() -> str:
    return (
        "<h2>Thank you!</h2><p>Your answers and your reading are stored. You can close this page.</p>"
        "<p>If you change your mind, open this page again, choose “Delete what was recorded earlier” and enter the "
        "code below.</p>"
    )


def withdrawn() -> str:
    return "<h2>Deleted</h2><p>Everything that was recorded of you is deleted. You can close this page.</p>"
