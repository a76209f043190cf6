"""What PsychoPy wrote of a session -> the pairs that were asked about, in the order shown.

PsychoPy's wide text is no CSV (2023.1.0): each field and each row ends in `;;;`, a field is put between quotes only if
it has a comma or a line break in it, and quotes inside it are not doubled. So a field that has neither keeps its own
quotes, and one that has ends at the first `";;;`. Two columns occur twice in the header; the first of each is read.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.oasst_etc.files import TRIAL, Session, check_header, complete_it, read_bytes
from ifllm_hub.sources.unrecorded import id_number
from ifllm_hub.terms import Side

_END = ";;;"
_HEADER = (
    "n_prompt",
    "prompt_text",
    "n_resp",
    "resp_text",
    "rank",
    "key_resp_2.started",
    "quality.response",
    "rude_polite.response",
    "ViolentHarmless.response",
    "ranking_better.response",
    "ranking_better.rt",
)
# An answer had to fit on one screen.
_MOST_CHARS = 8_000
_PROMPT = re.compile(r"[0-9]{1,9}", re.ASCII)
_SEMICOLONS = re.compile(";*")


@dataclass(frozen=True)
class Answer:
    """One of the two answers to a prompt.

    Attributes:
        trial: its id, prompt and answer.
        text: what was shown.
        rank: among the prompt's answers in OASST, 0 is the best; None if not given.
        started: when it was shown, s on PsychoPy's clock; None if it was not.
        quality, politeness, harmlessness: the reader's ratings, 1-5, or None.
    """

    trial: str
    text: str
    rank: float | None
    started: float | None
    quality: int | None
    politeness: int | None
    harmlessness: int | None


@dataclass(frozen=True)
class Pair:
    """A prompt with two answers.

    Attributes:
        session: of which reader.
        prompt: its number in the study.
        query: its text.
        left: the answer that was shown first.
        right: the answer that was shown second.
        preference: the side of the answer that the reader chose, or None.
        decision_ms: from the question to the choice.
        apart_ms: from when the first answer was shown to when the second was.
    """

    session: Session
    prompt: int
    query: str
    left: Answer
    right: Answer
    preference: Side | None
    decision_ms: int | None
    apart_ms: int

    @property
    def answers(self) -> dict[Side, Answer]:
        """By side, in the order shown."""
        return {"left": self.left, "right": self.right}

    @property
    def question_id(self) -> int:
        """Of the reader's question, from the study's own ids: positive, below 2^63."""
        return id_number("oasst-etc", str(self.session.user), str(self.session.prompts), str(self.prompt))


@dataclass(frozen=True)
class Asked:
    """What a session asked.

    Attributes:
        pairs: in the order shown.
        not_shown: how many prompts the reader skipped, so that no answer was shown.
        incomplete: how many prompts have one answer only.
    """

    pairs: list[Pair]
    not_shown: int
    incomplete: int


def read_session(session: Session) -> Asked:
    """The pairs of a session.

    Raises:
        IfllmError: the file is damaged, or has another header.
    """
    path = session.answers
    prompts: dict[str, list[dict[str, str]]] = {}
    previous = None
    for row in _rows(path):
        prompt = row["n_prompt"]
        # The first rows are of the instructions.
        if not prompt:
            continue
        if not _PROMPT.fullmatch(prompt):
            raise _damaged(path, f"n_prompt {prompt!a} is not a number")
        if prompt != previous and prompt in prompts:
            raise _damaged(path, f"prompt {prompt} occurs twice")
        prompts.setdefault(prompt, []).append(row)
        previous = prompt
    pairs, not_shown, incomplete = [], 0, 0
    for prompt, rows in prompts.items():
        answers = [_answer(path, row) for row in rows if row["n_resp"]]
        if len(answers) > 2 or len({answer.trial for answer in answers}) < len(answers):
            raise _damaged(path, f"prompt {prompt} has more than two answers, or one twice")
        if len(answers) < 2:
            incomplete += 1
        elif (first := answers[0].started) is None or (second := answers[1].started) is None:
            not_shown += 1
        else:
            pairs.append(_pair(session, int(prompt), rows, answers, round(1000 * (second - first))))
    return Asked(pairs, not_shown, incomplete)


def _pair(session: Session, prompt: int, rows: list[dict[str, str]], answers: list[Answer], apart_ms: int) -> Pair:
    path = session.answers
    # The row behind those of the answers.
    said = [row for row in rows if not row["n_resp"] and _number(path, row, "ranking_better.response") is not None]
    if len(said) > 1:
        raise _damaged(path, f"prompt {prompt} has more than one choice")
    choice = _whole(path, said[0], "ranking_better.response", 2) if said else None
    seconds = _number(path, said[0], "ranking_better.rt") if said else None
    return Pair(
        session=session,
        prompt=prompt,
        query=rows[0]["prompt_text"],
        left=answers[0],
        right=answers[1],
        preference=None if choice is None else "left" if choice == 1 else "right",
        decision_ms=None if seconds is None else round(1000 * seconds),
        apart_ms=apart_ms,
    )


def _answer(path: Path, row: dict[str, str]) -> Answer:
    trial, text = row["n_resp"], row["resp_text"]
    if not TRIAL.fullmatch(trial):
        raise _damaged(path, f"n_resp {trial!a} is not an answer's id such as 848.3")
    if not text or len(text) > _MOST_CHARS:
        raise _damaged(path, f"answer {trial} has {len(text)} characters, 1-{_MOST_CHARS} expected")
    return Answer(
        trial=trial,
        text=text,
        rank=_number(path, row, "rank"),
        started=_number(path, row, "key_resp_2.started"),
        quality=_whole(path, row, "quality.response", 5),
        politeness=_whole(path, row, "rude_polite.response", 5),
        harmlessness=_whole(path, row, "ViolentHarmless.response", 5),
    )


def _number(path: Path, row: dict[str, str], column: str) -> float | None:
    field = row[column]
    if field in ("", "None"):
        return None
    try:
        number = float(field)
    except ValueError:
        number = math.nan
    # A session lasts hours, and ranks are small.
    if not 0 <= number < 1e6:
        raise _damaged(path, f"{column} is {field[:40]!a}, a number expected")
    return number


def _whole(path: Path, row: dict[str, str], column: str, most: int) -> int | None:
    number = _number(path, row, column)
    if number is not None and number not in range(1, most + 1):
        raise _damaged(path, f"{column} is {number:g}, 1 to {most} expected")
    return None if number is None else int(number)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    try:
        text = read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _damaged(path, "is not UTF-8 text") from error
    head, _, body = text.rstrip("\n").partition("\n")
    header = head.removesuffix(_END).split(_END)
    check_header(path, header, dict.fromkeys(_HEADER), _END)
    places = {name: header.index(name) for name in _HEADER}
    at, number = 0, 1
    while at < len(body):
        number += 1
        fields = []
        for place in range(len(header)):
            if (found := _field(body, at)) is None:
                raise _damaged(path, f"row {number} ends after {place} of {len(header)} fields, each with {_END!r}")
            field, at = found
            fields.append(field)
        if body[at : at + 1] not in ("", "\n"):
            raise _damaged(path, f"row {number} has more than {len(header)} fields, each with {_END!r}")
        at += 1
        yield {name: fields[place] for name, place in places.items()}


def _field(body: str, at: int) -> tuple[str, int] | None:
    """The field that begins there, and where the next one does; None if the row ends before it does."""
    end = body.find(_END, at)
    if end < 0:
        return None
    if end > at:
        # Semicolons that the run has too many are the last of the field.
        end += len(_SEMICOLONS.match(body, end).group()) % len(_END)  # type: ignore[union-attr]  # always matches
    if body.startswith('"', at) and any(mark in body[at:end] for mark in ",\n"):
        end = body.find(f'"{_END}', at + 1)
        return None if end < 0 else (body[at + 1 : end], end + 1 + len(_END))
    return None if "\n" in body[at:end] else (body[at:end], end + len(_END))


def _damaged(path: Path, what: str) -> IfllmError:
    return IfllmError(f"{path}: {what}. {complete_it()}")
