"""Tables in Markdown, and names from elsewhere that may stand in a line of text."""

import re
from collections.abc import Iterable


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; a column whose head starts with ">" is set flush right.

    What is in a cell stays in it: see `one_line`, and a pipe does not end it.
    """
    rule = ["---:" if name.startswith(">") else "---" for name in head]
    lines = [_line(name.removeprefix(">") for name in head), f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(_line(row) for row in rows)])


def one_line(text: str) -> str:
    """A name from a file or the command line without line breaks, and without what would command a terminal."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    # A backslash before the pipe would itself be escaped, and the pipe end the cell.
    return re.sub(r"(\\*)\|", r"\1\1\|", one_line(text))
