"""How commands and scripts read the command line, and how they print text that is not ours."""

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    from rich.text import Text

# These control a terminal (C0 except tab and newline, C1), reverse the order of text, or make output fail (surrogates,
# which stand for bytes in a file name that are not UTF-8).
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def given_words() -> list[str]:
    """The command line after the program's name, with `~` expanded where the shell left it (`--out=~/runs`).

    Raises:
        IfllmError: there is no home folder.
    """
    return [_at_home(word) for word in sys.argv[1:]]


def at_home(value: Any) -> Any:
    """A value of a settings file with a leading `~` expanded; lists entry by entry.

    Raises:
        IfllmError: there is no home folder.
    """
    if isinstance(value, list):
        return [at_home(entry) for entry in value]
    return type(value)(_at_home(str(value))) if isinstance(value, str | Path) else value


def _at_home(word: str) -> str:
    name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    expanded = os.path.expanduser(value)
    if expanded == value and (value == "~" or value.startswith("~/")):
        raise IfllmError(f"{value}: there is no home folder (HOME is not set). Write the whole path.")
    return f"{name}{equals}{expanded}"


def shown(text: object) -> str:
    """Text that is safe to print: what would control the terminal is written as an escape, such as `\\x1b`."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], str(text))


def cell(text: object) -> "Text":
    """Text for a table, in which rich sees no markup in `[...]`."""
    from rich.text import Text

    return Text(shown(text))


def say(text: object) -> None:
    """Print a line on stdout."""
    sys.stdout.write(f"{shown(text)}\n")


def say_error(error: IfllmError) -> None:
    """Print an error on stderr."""
    sys.stderr.write(f"error: {shown(error)}\n")
