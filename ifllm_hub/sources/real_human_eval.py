"""RealHumanEval: what programmers copied from a chatbot's answers while they solved tasks.

Mozannar et al., "The RealHumanEval" (arXiv 2404.02806). One table, `chat_data.csv`, with a row per answer.
"""

import ast
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.sources.source import Facts, Recorded
from ifllm_hub.sources.unrecorded import empty_trajectories, id_number, question_rows, valid_text

FACTS: Facts = {
    "name": "real-human-eval",
    "title": "Chats of the RealHumanEval study",
    "url": "https://github.com/clinicalml/realhumaneval",
    "license": "cc0-1.0",
    "terms": "CC0 1.0: the authors waive their rights. Please cite them.",
    "citation": "@misc{mozannar2024realhumaneval,\n"
    "  title = {The {RealHumanEval}: Evaluating Large Language Models' Abilities to Support Programmers},\n"
    "  author = {Mozannar, Hussein and Chen, Valerie and Alsobay, Mohammed and Das, Subhro and Zhao, Sebastian and "
    "Wei, Dennis and Nagireddy, Manish and Sattigeri, Prasanna and Talwalkar, Ameet and Sontag, David},\n"
    "  year = {2024},\n  eprint = {2404.02806},\n  archivePrefix = {arXiv}\n}",
    "readers": "Programmers who solved short Python tasks with a chatbot beside the editor, each with one LLM. Nobody "
    "rated single answers; what they copied from an answer is known.",
    "recording": "No reading was recorded: no mouse, no gaze, no page. Times are of answers, in seconds.",
    "problems": [
        "A copy is assigned by its text: to every earlier answer in the task that contains it, so one copy may count "
        "for several answers.",
        "Whether something was copied says whether there was code to copy, too: a good explanation may never be.",
        "An answer is passed over if a later one in the same task was copied from; it may still have helped.",
        "A participant's number says nothing about who it was, but the tutorial's chats are among the others.",
    ],
    "not_comparable": [
        "There are no pairs and no ratings: copying is the only signal. It is not one of the study's labels.",
    ],
}

_FILE = "chat_data.csv"
_COLUMNS = ("request", "response", "copy_events", "logprobs", "programmer_id", "timestamp", "model", "task_name")
_HOW = f"Clone {FACTS['url']} and give its folder, or data/{_FILE} from it."
_EXTRA = {"kto_copied": pl.Boolean, "seconds": pl.Float64, "seconds_to_next": pl.Float64}
_LABELS = {True: "copied from", False: "passed over", None: "neither copied from nor passed over"}


@dataclass(frozen=True)
class _Answer:
    """One row of the table.

    Attributes:
        seconds: since the programmer's first answer.
        messages: of the chat, from the first to the query.
        copied: whether something was copied from it.
    """

    id: int
    programmer: str
    task: str
    seconds: float
    messages: Sequence[Mapping[str, str]]
    text: str
    model: str
    copied: bool


@dataclass(frozen=True)
class RealHumanEval:
    """A `Source`. A question is an answer to a programmer (pointwise), without a rating; a conversation is a task.

    Copying is an implicit label. An answer from which something was copied is desirable. It is undesirable if nothing
    was copied from it, and something was from a later answer in the same task: the programmer went on until there was
    something to use. Of other answers, copying says nothing: where nothing was copied at all, the task may have been
    solved by hand, and what follows the last copy may be an explanation. (Clicks on search results are read the same
    way: a result is only worse than one below it that was clicked.)

    Attributes:
        answers: by `worker_id`, in the order of time.
        unusable: by `worker_id`, what became of the other rows.
    """

    answers: Mapping[str, Sequence[_Answer]]
    unusable: Mapping[str, Counter[str]]

    @property
    def workers(self) -> frozenset[str]:
        return frozenset(self.unusable)

    @cached_property
    def people(self) -> dict[str, int]:
        return {worker: len({one.task for one in self.answers[worker]}) for worker in sorted(self.unusable)}

    def read(self, people: Sequence[str]) -> Recorded[Counter[str]]:
        """Their answers; see `source.Source`. `kto_copied` is the label, null where copying says nothing; `seconds` is
        when the answer came, since the programmer's first, and `seconds_to_next` until the next one in the task."""
        account: Counter[str] = Counter()
        rows: list[dict[str, Any]] = []
        for worker in people:
            account.update(self.unusable.get(worker, {}))
            for _, answers in groupby(self.answers.get(worker, ()), key=lambda one: one.task):
                rows += _rows(worker, list(answers))
        account.update(f"answers: {_LABELS[row['kto_copied']]}" for row in rows)
        questions = question_rows(rows, _EXTRA)
        return Recorded(questions, empty_trajectories(questions), account)


def open_real_human_eval(path: Path) -> RealHumanEval:
    """Read the chats of the study.

    Args:
        path: the cloned repository, its folder `data`, or `chat_data.csv`.

    Raises:
        IfllmError: the table is missing, has other columns, or holds what it should not.
    """
    places = (path / "data" / _FILE, path / _FILE) if path.is_dir() else (path,)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise IfllmError(f"{path}: no {_FILE} is there. {_HOW}")
    found: dict[str, list[_Answer]] = {}
    unusable: dict[str, Counter[str]] = {}
    seen: set[int] = set()
    for number, row in enumerate(_table(file), start=1):
        try:
            answer = _answer(row)
        except (ValueError, SyntaxError, TypeError, LookupError, AttributeError, MemoryError, RecursionError) as error:
            raise IfllmError(f"{file}: answer {number} is damaged ({first_line(error)}). {_HOW}") from error
        worker = f"realhumaneval_{answer.programmer}"
        counted = unusable.setdefault(worker, Counter())
        theirs = found.setdefault(worker, [])
        if answer.id in seen:
            counted["answers: twice in the table"] += 1
        elif not answer.messages or answer.messages[-1]["role"] != "user":
            counted["answers: without a question"] += 1
        else:
            theirs.append(answer)
        seen.add(answer.id)
    in_order = {worker: sorted(theirs, key=lambda one: (one.task, one.seconds)) for worker, theirs in found.items()}
    return RealHumanEval(in_order, unusable)


def _rows(worker: str, answers: Sequence[_Answer]) -> list[dict[str, Any]]:
    """The questions of one task."""
    task = id_number("real-human-eval task", answers[0].task)
    last_copied = max((place for place, one in enumerate(answers) if one.copied), default=-1)
    following = [*(one.seconds for one in answers[1:]), None]
    return [
        {
            "question_id": one.id,
            "worker_id": worker,
            "conversation_id": f"{worker}/{task}",
            "task_id": task,
            "turn": place + 1,
            "mode": "pointwise",
            "query": one.messages[-1]["content"],
            "context": one.messages,
            "response_left": one.text,
            "model_left": one.model,
            "kto_copied": one.copied if place <= last_copied else None,
            "seconds": one.seconds,
            "seconds_to_next": None if next_one is None else next_one - one.seconds,
        }
        for place, (one, next_one) in enumerate(zip(answers, following, strict=True))
    ]


def _table(file: Path) -> list[dict[str, str]]:
    """The rows, every column as text."""
    try:
        table = pl.read_csv(file, infer_schema=False, glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise IfllmError(f"{file}: cannot be read ({first_line(error)}). {_HOW}") from error
    if sorted(table.columns) != sorted(_COLUMNS):
        columns = ", ".join(table.columns)[:200]
        raise IfllmError(f"{file}: its columns are {columns!a}, not {', '.join(_COLUMNS)}. {_HOW}")
    return table.with_columns(pl.all().fill_null("")).to_dicts()


def _answer(row: Mapping[str, str]) -> _Answer:
    messages = [{name: valid_text(message[name]) for name in ("role", "content")} for message in _list(row["request"])]
    programmer, task, text = str(int(row["programmer_id"])), row["task_name"], row["response"]
    seconds = float(row["timestamp"])
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"timestamp {seconds}")
    copies = [event["copied"].strip() for event in _list(row["copy_events"])]
    query = messages[-1]["content"] if messages else ""
    return _Answer(
        id=id_number("real-human-eval", programmer, task, str(seconds), query, text),
        programmer=programmer,
        task=task,
        seconds=seconds,
        messages=messages,
        text=text,
        model=row["model"],
        copied=any(copies),
    )


def _list(text: str) -> list[Any]:
    """A list that was written as Python writes it."""
    with warnings.catch_warnings(action="ignore"):
        value = ast.literal_eval(text)
    if not isinstance(value, list):
        raise ValueError(f"no list: {text[:40]}")
    return value
