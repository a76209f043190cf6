"""The code blocks of Markdown pages: what each holds, and its Python run as the page's reader would run it."""

import os
import re
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

PLACEHOLDER = "ORG/ifllm"

_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_END = "\x1e"


class Fence(NamedTuple):
    """A fenced block of a page: what the page says it is written in, and its text."""

    language: str
    code: str


def fences(page: str) -> list[Fence]:
    """All fenced blocks of a page."""
    return [Fence(match["language"], match["code"]) for match in _FENCE.finditer(page)]


def blocks(page: str) -> list[tuple[str, str]]:
    """Python code, and the output printed below it ("" where there is none)."""
    return [(match["code"], match["output"] or "") for match in _BLOCK.finditer(page)]


def run(
    page: str,
    folder: Path,
    scratch: Path,
    *,
    model: Path | None = None,
    leave_out: Collection[str] = (),
    warnings: str = "error",
) -> list[str]:
    """What each Python block prints, in the folder `scratch`. One new process.

    Args:
        folder: the dataset that `ORG/ifllm` stands for.
        model: the reward model that `ORG/ifllm-reward` stands for.
        leave_out: blocks that are not run, and print nothing.
        warnings: what the interpreter does with them. Trainers warn of their own deprecated settings.
    """
    ends = f"\nprint(end={_END!r}, flush=True)\n"
    code = "".join(("" if block in leave_out else block) + ends for block, _ in blocks(page))
    code = code.replace(f"{PLACEHOLDER}-reward", str(model))
    code = code.replace(f"hf://datasets/{PLACEHOLDER}", str(folder)).replace(PLACEHOLDER, str(folder))
    # A thread of a stream may outlive it and abort the interpreter at its end: huggingface/datasets#7566.
    (scratch / "page.py").write_text(code + "import os\nos._exit(0)\n")
    environment = {**os.environ, "HF_HOME": str(scratch / "hf"), "MPLBACKEND": "agg", "MPLCONFIGDIR": str(scratch)}
    done = subprocess.run(
        [sys.executable, "-W", warnings, "page.py"],
        cwd=scratch,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(_END)[:-1]
