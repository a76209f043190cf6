"""What an evaluation leaves: its numbers as JSON, and a page of them as Markdown."""

import json
from pathlib import Path
from typing import Any

from ifllm_hub.errors import IfllmError
from ifllm_hub.files import write_atomically


def write_results(folder: Path, name: str, results: dict[str, Any], page: str) -> None:
    """Write `<name>.json` and `<name>.md`; the folder is made.

    Raises:
        IfllmError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IfllmError(
            f"{folder}: cannot be written ({error.strerror}). Choose a folder you may write to."
        ) from error
    write_atomically(folder / f"{name}.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / f"{name}.md", page)
