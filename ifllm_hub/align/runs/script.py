"""What every script in `training/` and `eval/` does around its main call."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ifllm_hub.errors import IfllmError
from ifllm_hub.terminal import at_home, given_words, say_error, shown

Arguments = TypeVar("Arguments")


def exit_status(run: Callable[[], Any]) -> int:
    """Run with log messages on stderr; return 0, or 2 after an `IfllmError`, which is printed as one line."""
    show_log()
    try:
        run()
    except IfllmError as error:
        say_error(error)
        return 2
    return 0


def show_log() -> None:
    """Show log messages on stderr as they are, except for terminal control characters."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Shown())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for client in ("httpx", "httpx2"):  # of huggingface_hub 1 and 2; they would log every request
        logging.getLogger(client).setLevel(logging.WARNING)


class _Shown(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


def parse_flags(arguments: type[Arguments], argv: Sequence[str] | None = None) -> Arguments:
    """Read the flags of a script without a trainer, and the YAML file named by `--config` whose values they override.

    Args:
        arguments: one of this package's dataclasses.

    Raises:
        IfllmError: the file cannot be read, or a name or value in it or among the flags is not accepted.
        SystemExit: status 2, after a message on stderr, for a flag that argparse itself refuses.
    """
    import yaml
    from trl.scripts.utils import TrlParser

    types: Any = (arguments,)
    parser = TrlParser(types, allow_abbrev=False)
    try:
        (parsed,) = parser.parse_args_and_config(given_words() if argv is None else list(argv))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise IfllmError(f"The settings or a flag are not accepted: {error} Correct it, or see --help.") from error
    return paths_at_home(parsed)


def paths_at_home(arguments: Arguments) -> Arguments:
    """Replace `~` with the home folder in the values of a recipe or a settings file, in place.

    Args:
        arguments: a dataclass.

    Raises:
        IfllmError: there is no home folder.
    """
    for name, value in vars(arguments).items():
        setattr(arguments, name, at_home(value))
    return arguments
