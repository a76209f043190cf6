"""What every script in `training/` and `eval/` has around its one call."""

import logging
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from ifllm_hub.errors import IfllmError

Arguments = TypeVar("Arguments")


def exit_status(run: Callable[[], Any]) -> int:
    """Run with log messages shown as they are; 0, or 2 after an `IfllmError`, which is one line on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it would say every request
    try:
        run()
    except IfllmError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0


def parse_flags(arguments: type[Arguments], argv: Sequence[str] | None = None) -> Arguments:
    """Read the flags of a script without a trainer, and the YAML file named by `--config` whose values they override.

    Args:
        arguments: a dataclass of ours.

    Raises:
        IfllmError: the file cannot be read, or a name or value in it or among the flags is not accepted.
        SystemExit: status 2, after a message on stderr, for a flag that argparse refuses itself.
    """
    import yaml
    from trl.scripts.utils import TrlParser

    words = list(sys.argv[1:] if argv is None else argv)
    types: Any = (arguments,)
    parser = TrlParser(types, allow_abbrev=False)
    try:
        (parsed,) = parser.parse_args_and_config(words)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise IfllmError(f"The settings or a flag are not accepted: {error} Correct it, or see --help.") from error
    return parsed
