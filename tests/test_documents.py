"""Documents are checked against the same declaration that mypy reads."""

from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from ifllm_hub.documents import checked
from ifllm_hub.errors import IfllmError


class Part(TypedDict):
    share: float
    names: list[str]


class Whole(Part):
    number: int
    flag: bool
    parts: list[Part]
    sides: dict[Literal["left", "right"], int]
    counts: dict[str, int]
    perhaps: Part | None
    free: dict[str, Any]
    later: NotRequired[int]


PART: dict[str, Any] = {"share": 1, "names": []}
WHOLE: dict[str, Any] = PART | {
    "number": 1,
    "flag": False,
    "parts": [PART],
    "sides": {"left": 1, "right": 2},
    "counts": {},
    "perhaps": None,
    "free": {"any": 1, "thing": ["at", None]},
}


@pytest.mark.parametrize(
    "change", [{}, {"later": 3}, {"unknown": "x"}, {"perhaps": PART}, {"share": 0.5}, {"counts": {"any": 1}}]
)
def test_what_fits_is_handed_on(change: dict[str, Any]) -> None:
    content = WHOLE | change
    assert checked(content, Whole, Path("a.json"), "Make it again.") is content


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"number": True}, "`number` is"),
        ({"number": 1.0}, "`number` is"),
        ({"number": None}, "`number` is"),
        ({"flag": 1}, "`flag` is"),
        ({"share": False}, "`share` is"),
        ({"names": "ab"}, "`names` is"),
        ({"names": ["a", 2]}, r"`names\[1\]` is"),
        ({"parts": [PART, {}]}, r"`parts\[1\].share` is"),
        ({"parts": {}}, "`parts` is"),
        ({"sides": {"left": 1}}, "`sides.right` is"),
        ({"counts": {"any": "1"}}, "`counts.any` is"),
        ({"counts": []}, "`counts` is"),
        ({"perhaps": {"share": 1}}, "`perhaps.names` is"),
        ({"later": None}, "`later` is"),
        ({"free": []}, "`free` is"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], place: str) -> None:
    with pytest.raises(IfllmError, match=rf"^a\.json: {place} missing or damaged\. Make it again\.$"):
        checked(WHOLE | change, Whole, Path("a.json"), "Make it again.")


@pytest.mark.parametrize("name", sorted({*WHOLE}))
def test_every_key_is_needed(name: str) -> None:
    with pytest.raises(IfllmError, match=f"`{name}` is missing"):
        checked({key: value for key, value in WHOLE.items() if key != name}, Whole, Path("a.json"), "Make it again.")


@pytest.mark.parametrize("content", [None, [], "x", 3])
def test_what_is_no_object(content: Any) -> None:
    with pytest.raises(IfllmError, match=r"^a\.json: is missing or damaged"):
        checked(content, Whole, Path("a.json"), "Make it again.")
