"""What every script in `training/` has around its one call."""

import logging
import sys
from collections.abc import Callable
from typing import Any

from ifllm_hub.errors import IfllmError


def exit_status(run: Callable[[], Any]) -> int:
    """Run with log messages shown as they are; 0, or 2 after an `IfllmError`, which is one line on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        run()
    except IfllmError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0
