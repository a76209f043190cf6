"""Open WebUI's feedback export: thumbs for answers, and which of several answers to a question was better.

The format is that of Open WebUI 0.3.34 (October 2024, the first that exports feedback) to 0.7 (January 2026):
`GET /api/v1/evaluations/feedbacks/all/export` gives the rows of its table `feedback` as a JSON list, made by the page's
`feedbackHandler` (ResponseMessage.svelte). `meta.base_models` and `data.details` came later; neither is needed.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.sources.source import Facts, Recorded
from ifllm_hub.sources.thumbs import preferred_by_thumbs
from ifllm_hub.sources.unrecorded import empty_trajectories, id_number, pseudonym, question_rows, valid_text
from ifllm_hub.terms import SIDES

FACTS: Facts = {
    "name": "open-webui",
    "title": "Feedback from Open WebUI",
    "url": "https://github.com/open-webui/open-webui",
    "license": "unknown",
    "terms": "These are chats of your own users: what you may do with them depends on what they agreed to.",
    "citation": "",
    "readers": "Users of a chat product, in chats of their own. They may give an answer a thumb up or down; nobody "
    "asked them to.",
    "recording": "No reading was recorded: no mouse, no gaze, no page.",
    "problems": [
        "Ratings are thumbs: 5 for up and 1 for down. The 1 to 10 that the form asks for afterwards is in no config: "
        "it would put the thumbs up of those who fill it in below those of others.",
        "Answers without a thumb are missing, and who gives one is not a random user with a random answer.",
        "Of a rated answer and an unrated one, the reader may not have read the unrated one to its end.",
        "Worker ids are hashes of user ids: whoever has a user's id can find that user's rows. This is pseudonymous, "
        "not anonymous, and chats may name people: run `ifllm scan`.",
        "Reasoning, tool calls and code runs, which Open WebUI keeps inside an answer and folds away, are cut out.",
        "Users can edit answers. The export has an answer as it was when somebody last rated it.",
    ],
    "not_comparable": [
        "A pair is what somebody regenerated, asked of several models at once, or got in the arena; only the last is "
        "blind. In the study, everybody saw two answers to each question.",
        "Left is the answer that was made first. It may have been shown before the other and not beside it.",
    ],
}

_EXPORT = "Export again in Admin Panel > Evaluations > Feedbacks, as JSON."
_THUMBS = {"1": 5, "-1": 1}
# Models write a handful of answers to one question. Damaged files might have thousands, and so millions of pairs.
_MOST_ANSWERS = 16
_FOLDED = tuple(f'<details type="{kind}"' for kind in ("reasoning", "tool_calls", "code_interpreter"))
_FOLDED_END = "</details>"
_YEAR_2100 = 4_102_444_800


@dataclass(frozen=True)
class _Answer:
    """An answer in a chat, and the model that wrote it."""

    id: str
    text: str
    model: str | None


@dataclass(frozen=True)
class _Rated:
    """An answer with a thumb.

    Attributes:
        rating: 5 or 1.
        details: 1 to 10, if the form was filled in.
        answers: to the same question, this one among them, in the order in which they were made.
        messages: of the chat, from the first to the question.
        asked_at: Unix seconds.
    """

    chat: str
    id: str
    rating: int
    details: int | None
    answers: tuple[_Answer, ...]
    messages: tuple[dict[str, str], ...]
    asked_at: int | None


@dataclass(frozen=True)
class OpenWebUI:
    """A `Source`. A question is an answer with a thumb (pointwise) or a pair of answers to one message (pairwise).

    A thumb up says that the answer is better than each of the others, as on Open WebUI's own leaderboard. A thumb down
    says so of another answer if there is exactly one other: of several, somebody may find one more no better. If both
    have thumbs, the better one is preferred, and none if they are equal. An answer in a pair is in no pointwise row.

    Attributes:
        feedbacks: by `worker_id`, as in the file.

    Examples:
        >>> import json, pathlib, tempfile
        >>> from ifllm_hub.sources.open_webui import open_open_webui
        >>> messages = {
        ...     "q": {"role": "user", "content": "Why is the sky blue?", "parentId": None, "childrenIds": ["a", "b"]},
        ...     "a": {"role": "assistant", "content": "It is not.", "model": "small", "parentId": "q"},
        ...     "b": {"role": "assistant", "content": "Air scatters blue.", "model": "large", "parentId": "q"},
        ... }
        >>> feedback = {
        ...     "id": "f", "user_id": "u", "version": 0, "type": "rating", "created_at": 1735689600,
        ...     "data": {"rating": 1}, "meta": {"chat_id": "c", "message_id": "b"},
        ...     "snapshot": {"chat": {"chat": {"history": {"messages": messages}}}},
        ... }
        >>> file = pathlib.Path(tempfile.mkdtemp()) / "feedback.json"
        >>> _ = file.write_text(json.dumps([feedback]))
        >>> source = open_open_webui(file)
        >>> source.read(list(source.people)).questions.select("model_left", "model_right", "preference").row(0)
        ('small', 'large', 'right')
    """

    feedbacks: Mapping[str, Sequence[Mapping[str, Any]]]

    @property
    def workers(self) -> frozenset[str]:
        return frozenset(self.feedbacks)

    @cached_property
    def people(self) -> dict[str, int]:
        return {worker: len(theirs) for worker, theirs in sorted(self.feedbacks.items())}

    def read(self, people: Sequence[str]) -> Recorded[Counter[str]]:
        """Their pairs and rated answers; see `source.Source`."""
        account: Counter[str] = Counter()
        rows: list[dict[str, Any]] = []
        for worker in people:
            rows += _rows(worker, self.feedbacks.get(worker, ()), account)
        extra = {f"details_{side}": pl.Int8 for side in SIDES}
        questions = question_rows(rows, extra)
        preferred = preferred_by_thumbs(*(pl.col(f"rating_{side}") - 3 for side in SIDES))
        questions = questions.with_columns(
            preference=pl.when(mode="pairwise").then(preferred),
            kto_thumbs=pl.when(mode="pointwise").then(pl.col("rating_left") == _THUMBS["1"]),
        )
        return Recorded(questions, empty_trajectories(questions), account)


def open_open_webui(file: Path) -> OpenWebUI:
    """Read a feedback export.

    Raises:
        IfllmError: the file cannot be read, or is not such an export.
    """
    try:
        feedbacks = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise IfllmError(f"{file}: cannot be read ({error.strerror}). Give the file that Open WebUI saved.") from error
    except (ValueError, RecursionError) as error:
        raise IfllmError(f"{file}: not JSON ({first_line(error)}). {_EXPORT}") from error
    if not isinstance(feedbacks, list):
        raise IfllmError(f"{file}: not a list of feedbacks. {_EXPORT}")
    by_worker: dict[str, list[Mapping[str, Any]]] = {}
    for place, feedback in enumerate(feedbacks):
        if not isinstance(feedback, dict) or not all(isinstance(feedback.get(key), str) for key in ("user_id", "type")):
            of_chats = isinstance(feedback, dict) and "chat" in feedback
            instead = "a chat, not a feedback" if of_chats else "no feedback: it needs texts `user_id` and `type`"
            raise IfllmError(f"{file}: entry {place} is {instead}. {_EXPORT}")
        by_worker.setdefault(pseudonym("openwebui", feedback["user_id"]), []).append(feedback)
    return OpenWebUI(by_worker)


def _rows(worker: str, feedbacks: Sequence[Mapping[str, Any]], account: Counter[str]) -> list[dict[str, Any]]:
    """One person's questions, by conversation and turn; what became of each feedback is added to the account."""
    rated: dict[tuple[str, str], _Rated] = {}
    # The latest about an answer counts, and knows best what a pair was in the end.
    for feedback in sorted(feedbacks, key=_updated_at, reverse=True):
        found = _rated(feedback)
        if isinstance(found, str):
            account[f"feedbacks: {found}"] += 1
        elif rated.setdefault((found.chat, found.id), found) is not found:
            account["feedbacks: replaced"] += 1
    pairs: dict[tuple[str, ...], tuple[_Rated, _Answer]] = {}
    for one in rated.values():
        for other in _rivals(one, rated):
            pairs.setdefault((one.chat, *sorted((one.id, other.id))), (one, other))
    in_pairs = {(chat, id_) for chat, *ids in pairs for id_ in ids}
    rows = [_pair(one, other, rated) for one, other in pairs.values()]
    for key, one in rated.items():
        account["feedbacks: pairwise" if key in in_pairs else "feedbacks: pointwise"] += 1
        if key not in in_pairs:
            rows.append(_single(one))
    for row in rows:
        ids = row.pop("ids")
        chat = row.pop("chat")
        task = id_number("open-webui chat", worker, chat)
        row |= {
            "question_id": id_number("open-webui", worker, chat, *sorted(ids)),
            "worker_id": worker,
            "conversation_id": f"{worker}/{task}",
            "task_id": task,
        }
    return sorted(rows, key=lambda row: (row["task_id"], row["turn"], row["question_id"]))


def _rivals(one: _Rated, rated: Mapping[tuple[str, str], _Rated]) -> Iterator[_Answer]:
    """The answers that a thumb compares one with."""
    if len(one.answers) > _MOST_ANSWERS:
        return
    for other in one.answers:
        says_which = one.rating == _THUMBS["1"] or len(one.answers) == 2 or (one.chat, other.id) in rated
        if other.id != one.id and says_which:
            yield other


def _pair(one: _Rated, other: _Answer, rated: Mapping[tuple[str, str], _Rated]) -> dict[str, Any]:
    left, right = (answer for answer in one.answers if answer.id in (one.id, other.id))
    row = _question(one, "pairwise")
    for side, answer in zip(SIDES, (left, right), strict=True):
        row |= _side(side, answer, rated.get((one.chat, answer.id)))
    return row | {"ids": (left.id, right.id)}


def _single(one: _Rated) -> dict[str, Any]:
    answer = next(answer for answer in one.answers if answer.id == one.id)
    return _question(one, "pointwise") | _side("left", answer, one) | {"ids": (one.id,)}


def _question(one: _Rated, mode: str) -> dict[str, Any]:
    return {
        "mode": mode,
        "chat": one.chat,
        "turn": sum(message["role"] == "user" for message in one.messages),
        "query": one.messages[-1]["content"],
        "context": one.messages,
        "asked_at": one.asked_at,
    }


def _side(side: str, answer: _Answer, thumb: _Rated | None) -> dict[str, Any]:
    said = {} if thumb is None else {f"rating_{side}": thumb.rating, f"details_{side}": thumb.details}
    return {f"response_{side}": answer.text, f"model_{side}": answer.model, **said}


def _rated(feedback: Mapping[str, Any]) -> _Rated | str:
    """The answer that a feedback is about, or why there is none."""
    data, meta = _object(feedback, "data"), _object(feedback, "meta")
    if feedback["type"] != "rating":
        return "of another type"
    # The API takes the rating as a text, too.
    thumb = data.get("rating")
    rating = _THUMBS.get(str(thumb)) if type(thumb) in (int, str) else None
    if rating is None:
        return "without a thumb"
    chat = _object(_object(feedback, "snapshot"), "chat")
    messages = _object(_object(_object(chat, "chat"), "history"), "messages")
    if not messages:
        return "without a snapshot"
    answer = _answer(messages, meta.get("message_id"))
    if answer is None:
        return "without an answer"
    question = messages[answer.id].get("parentId")
    path = _path(messages, question)
    if not path or path[-1]["role"] != "user":
        return "without a question"
    children = messages[question].get("childrenIds")
    made = dict.fromkeys(child for child in children if isinstance(child, str)) if isinstance(children, list) else {}
    answers = [found for child in made if (found := _answer(messages, child, of=question))]
    return _Rated(
        chat=next((one for one in (meta.get("chat_id"), chat.get("id")) if isinstance(one, str) and one), ""),
        id=answer.id,
        rating=rating,
        details=_details(data),
        answers=tuple(answers if answer in answers else [answer]),
        messages=tuple(path),
        asked_at=_seconds(messages[answer.id].get("timestamp")) or _seconds(feedback.get("created_at")),
    )


def _answer(messages: Mapping[str, Any], id_: Any, of: str | None = None) -> _Answer | None:
    """A message by a model, with a text, below the message `of`, if any is named."""
    message = _object(messages, id_) if isinstance(id_, str) else {}
    text = message.get("content")
    # Where `error` is true, and not an object, the content is the error's message.
    if message.get("role") != "assistant" or not isinstance(text, str) or message.get("error") is True:
        return None
    if of is not None and message.get("parentId") != of:
        return None
    shown = _unfolded(valid_text(text))
    # In the arena, `model` is the arena's name, and `selectedModelId` the model that wrote the answer.
    names = (message.get("selectedModelId"), message.get("model"))
    model = next((valid_text(name) for name in names if isinstance(name, str) and name), None)
    return _Answer(id_, shown, model) if shown.strip() else None


def _path(messages: Mapping[str, Any], id_: Any) -> list[dict[str, str]]:
    """The chat's messages from the first to this one; empty if they go round in a circle, or one has no text."""
    path: list[dict[str, str]] = []
    seen = set()
    while isinstance(id_, str) and id_ in messages:
        message = _object(messages, id_)
        role, content = message.get("role"), message.get("content")
        if id_ in seen or not isinstance(role, str) or not isinstance(content, str):
            return []
        seen.add(id_)
        text = valid_text(content)
        path.append({"role": valid_text(role), "content": _unfolded(text) if role == "assistant" else text})
        id_ = message.get("parentId")
    return path[::-1]


def _unfolded(text: str) -> str:
    """An answer without what the page folds away."""
    if not any(start in text for start in _FOLDED):
        return text
    *parts, rest = text.split(_FOLDED_END)
    kept = []
    for part in parts:
        start = min((place for begin in _FOLDED if (place := part.find(begin)) >= 0), default=None)
        kept.append(part + _FOLDED_END if start is None else part[:start])
    return "".join([*kept, rest]).strip()


def _details(data: Mapping[str, Any]) -> int | None:
    rating = _object(data, "details").get("rating")
    return rating if type(rating) is int and 1 <= rating <= 10 else None


def _updated_at(feedback: Mapping[str, Any]) -> int:
    return _seconds(feedback.get("updated_at")) or _seconds(feedback.get("created_at")) or 0


def _seconds(value: Any) -> int | None:
    """A Unix time in seconds, if it is one."""
    return int(value) if type(value) in (int, float) and 0 < value < _YEAR_2100 else None


def _object(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; an empty one if there is none."""
    value = holder.get(key)
    return value if isinstance(value, dict) else {}
