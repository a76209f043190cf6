"""The one exception that users are meant to read."""


class IfllmError(Exception):
    """Bad input or a missing resource: the message says what was wrong, where, and what to do about it.

    The command line prints it without a traceback and exits with status 2.
    """


def first_line(error: Exception) -> str:
    """The first line of an error's message (some run to pages), escaped if a foreign file put unprintables in it."""
    line = str(error).strip().split("\n", 1)[0]
    return line if line.isprintable() else ascii(line)[1:-1]
