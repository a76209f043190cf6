"""Reading a judge's answer: a verdict that is valid in every part, or the reason why there is none.

What counts as valid:

- A score is a JSON number (in four lines: digits) from 1 to 10, whole or half. `"8"`, `8/10`, `true`, 0, 11 and 7.3
  are not scores.
- The whole answer is the verdict. A Markdown fence around the JSON object and what a reasoning model thinks before it,
  up to the last `</think>`, are removed; any other text beside it makes it malformed, because there is no telling whose
  text that is.
- Keys are those asked for, each once.
- The winner does not have the lower score, and a tie has equal scores. Equal scores with a winner are fine: the scale
  is coarse.

Anything else is `malformed`, even where one could guess what was meant.
"""

import json
import re
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from ifllm_hub.evaluation.judge.prompts import Form, verdict_keys
from ifllm_hub.evaluation.thoughts import CLOSED

Place = Literal["first", "second", "tie"]


@dataclass(frozen=True)
class Verdict:
    """What a judge said of the answers in the order shown.

    Attributes:
        scores: 1 to 10; one in mode `single`, else two.
        winner: None in mode `single`.
        explanation: empty if none was asked for.
    """

    scores: tuple[float, ...]
    winner: Place | None
    explanation: str


@dataclass(frozen=True)
class NoVerdict:
    """Why there is none: `error` is for a person."""

    status: Literal["malformed", "refused", "truncated"]
    error: str


def read_verdict(
    form: Form, text: str | None, finish_reason: str | None = None, refusal: str | None = None
) -> Verdict | NoVerdict:
    """Read what a judge answered.

    Args:
        form: how it was asked.
        text: the content of its message.
        finish_reason: as the server gives it; `length` means that it was cut, `content_filter` that it was held back.
        refusal: the message's own field for a refusal, which some servers have.
    """
    if refusal or finish_reason == "content_filter":
        return NoVerdict("refused", f"the judge refused: {_excerpt(refusal or 'content filter')}")
    if finish_reason == "length":
        return NoVerdict("truncated", "the answer was cut at max_tokens; allow more")
    if not text or not text.strip():
        return NoVerdict("malformed", "the answer is empty")
    answer = text.rpartition(CLOSED)[2].strip()
    try:
        return _read(form, text.strip(), answer)
    except (_Malformed, RecursionError) as error:
        if _REFUSAL.match(answer):
            return NoVerdict("refused", f"the judge refused: {_excerpt(answer)}")
        return NoVerdict("malformed", str(error))


def utf8(text: str) -> str:
    """Replace half a surrogate pair, which JSON can escape but no file can hold, with a question mark."""
    return text.encode("utf-8", "replace").decode()


class _Malformed(Exception):
    """What is wrong with the answer."""


_REFUSAL = re.compile(
    r"(i['’]m |i am )?(very )?(sorry|afraid)\b|"
    r"(as an ai\b.{0,80})?(i )?(can['’]?t|cannot|can not|won['’]?t|will not|am unable|decline|must decline)\b",
    re.IGNORECASE | re.DOTALL,
)
_FENCE = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL)
_NUMBER = r"(\d{1,2}(?:\.\d)?)"
_FOUR_LINES = re.compile(
    rf"SCORE_A:[ \t]*{_NUMBER}[ \t]*\n\s*SCORE_B:[ \t]*{_NUMBER}[ \t]*\n\s*WINNER:[ \t]*(A|B|tie)[ \t]*\n"
    r"\s*REASONING:[ \t]*(\S.*)",
    re.IGNORECASE | re.DOTALL,
)
_PLACES: dict[str, Place] = {"a": "first", "b": "second", "tie": "tie"}


def _read(form: Form, text: str, answer: str) -> Verdict:
    """The verdict in the whole text, whose explanation may contain `</think>`, or else in what follows the last one."""
    read = _four_lines if form.preset == "reference" else partial(_json_verdict, form)
    try:
        return read(text)
    except _Malformed:
        if answer == text:
            raise
        return read(answer)


def _four_lines(text: str) -> Verdict:
    match = _FOUR_LINES.fullmatch(text)
    if match is None:
        raise _Malformed("not the four lines SCORE_A, SCORE_B, WINNER, REASONING in their form")
    if re.search(r"^\s*(SCORE_[AB]|WINNER):", match[4], re.IGNORECASE | re.MULTILINE):
        raise _Malformed("a second verdict in the reasoning")
    return _checked((_score(float(match[1])), _score(float(match[2]))), _PLACES[match[3].lower()], match[4])


def _json_verdict(form: Form, text: str) -> Verdict:
    values = _json_object(text, set(verdict_keys(form)))
    explanation = values.get("explanation", "")
    if not isinstance(explanation, str):
        raise _Malformed(f"explanation is {_excerpt(explanation)}, not a text")
    if form.mode == "single":
        return Verdict((_score(values["score"]),), None, utf8(explanation.strip()))
    winner = values["winner"]
    if winner not in _PLACES.values():
        raise _Malformed(f"winner is {_excerpt(winner)}, not first, second or tie")
    return _checked((_score(values["score_first"]), _score(values["score_second"])), winner, explanation)


def _json_object(text: str, keys: set[str]) -> dict[str, Any]:
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1]
    try:
        values = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except ValueError as error:
        raise _Malformed(f"not one JSON object and nothing else ({error})") from error
    if not isinstance(values, dict) or set(values) != keys:
        raise _Malformed(f"not a JSON object with the keys {', '.join(sorted(keys))}")
    return values


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise _Malformed("a key occurs twice in the JSON object")
    return values


def _no_constant(name: str) -> None:
    raise _Malformed(f"{name} is not a JSON number")


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Malformed(f"a score is {_excerpt(value)}, not a number")
    if not 1 <= value <= 10:
        raise _Malformed(f"a score is {_excerpt(value)}, not from 1 to 10")
    if value * 2 % 1:
        raise _Malformed(f"a score is {_excerpt(value)}, neither whole nor half")
    return float(value)


def _checked(scores: tuple[float, float], winner: Place, explanation: str) -> Verdict:
    first, second = scores
    contradicts = {"first": first < second, "second": second < first, "tie": first != second}
    if contradicts[winner]:
        raise _Malformed(f"the winner is {winner}, but the scores are {first:g} and {second:g}")
    return Verdict(scores, winner, utf8(explanation.strip()))


def _excerpt(value: Any) -> str:
    text = utf8(repr(value) if not isinstance(value, str) else value)
    return text if len(text) <= 80 else f"{text[:80]}..."
