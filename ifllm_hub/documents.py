"""JSON documents that one command writes and others read: a `TypedDict` declares each, for mypy and at run time."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints, is_typeddict

from ifllm_hub.errors import IfllmError

Document = TypeVar("Document")


def checked(content: Any, declared: type[Document], path: Path, advice: str) -> Document:
    """The content of a JSON file, checked against the document it is declared to be. Extra keys are allowed.

    Args:
        declared: a `TypedDict` of `str`, `int`, `float`, `bool`, lists, dicts, other TypedDicts, any of these or None,
            and `Any`. A dict whose keys are a `Literal` has all of them.
        path: of the file.
        advice: what to do when it is damaged, a sentence.

    Raises:
        IfllmError: a key is missing, or its value has another type.
    """
    for place in _faults(content, declared, ""):
        raise IfllmError(f"{path}: {f'`{place}` is' if place else 'is'} missing or damaged. {advice}")
    return content


def _faults(value: Any, declared: Any, place: str) -> Iterator[str]:
    """The places where a value does not have its declared type."""
    kind, parts = get_origin(declared), get_args(declared)
    if declared is Any:
        return
    if kind is UnionType:
        if value is not None:
            yield from _faults(value, parts[0], place)
    elif is_typeddict(declared):
        yield from _faults_of_keys(value, _hints(declared), declared.__optional_keys__, place)
    elif kind is dict and get_origin(parts[0]) is Literal:
        yield from _faults_of_keys(value, dict.fromkeys(get_args(parts[0]), parts[1]), frozenset(), place)
    elif type(value) is not (kind or declared) and not (declared is float and type(value) is int):
        yield place
    elif kind is dict:
        yield from _faults_of_keys(value, dict.fromkeys(value, parts[1]), frozenset(), place)
    elif kind is list:
        for number, entry in enumerate(value):
            yield from _faults(entry, parts[0], f"{place}[{number}]")


def _faults_of_keys(value: Any, declared: dict[str, Any], optional: frozenset[str], place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield place
        return
    for name, inner in declared.items():
        where = f"{place}.{name}" if place else name
        if name in value:
            yield from _faults(value[name], inner, where)
        elif name not in optional:
            yield where


@cache
def _hints(declared: Any) -> dict[str, Any]:
    """Of a document that has thousands of the same: to resolve them takes longer than to check one."""
    return get_type_hints(declared)
