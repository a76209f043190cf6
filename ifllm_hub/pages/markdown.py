"""Tables in Markdown, and foreign names made safe for a line of text."""

import re
from collections.abc import Iterable


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; a column whose head starts with ">" is right-aligned.

    A text cannot break out of its cell: line breaks are removed (see `one_line`) and pipes escaped.
    """
    rule = ["---:" if name.startswith(">") else "---" for name in head]
    lines = [_line(name.removeprefix(">") for name in head), f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def one_line(text: str) -> str:
    """A name from a file or the command line without line breaks and terminal control characters."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    # Backslashes before a pipe are doubled: they would escape ours, and the pipe would end the cell.
    return re.sub(r"(\\*)\|", r"\1\1\|", one_line(text))
