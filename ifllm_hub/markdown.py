"""Tables in Markdown."""

from collections.abc import Iterable


def markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table; a column whose head starts with ">" is set flush right."""
    rule = ["---:" if name.startswith(">") else "---" for name in head]
    lines = [f"| {' | '.join(name.removeprefix('>') for name in head)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
