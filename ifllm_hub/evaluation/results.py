"""The output of an evaluation: its numbers as JSON, and a page of them as Markdown."""

import json
from pathlib import Path
from typing import Any

from ifllm_hub.files import make_folder, write_atomically


def write_results(folder: Path, name: str, results: dict[str, Any], page: str) -> None:
    """Write `<name>.json` and `<name>.md`; the folder is created.

    Raises:
        IfllmError: the folder cannot be written.
    """
    make_folder(folder)
    write_atomically(folder / f"{name}.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / f"{name}.md", page)
