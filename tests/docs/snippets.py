"""The blocks of a Markdown page: by name, or those of Python, run one after the other as its reader would."""

import os
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

PLACEHOLDER = "ORG/ifllm"

_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```(?P<language>\w+) ?(?P<name>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "\x1e"


@dataclass(frozen=True)
class Fence:
    language: str
    code: str


def fences(page: str) -> dict[str, Fence]:
    """All blocks by their names, which stand behind the language and are no part of what is shown."""
    named = {match["name"]: Fence(match["language"], match["code"]) for match in _FENCE.finditer(page)}
    assert len(named) == len(in_order(page)), "two blocks have one name, or none"
    return named


def in_order(page: str) -> list[Fence]:
    """All blocks as they come, whether they have names or not."""
    found = [Fence(match["language"], match["code"]) for match in _FENCE.finditer(page)]
    marks = len(re.findall("^ *```", page, re.MULTILINE))
    assert len(found) * 2 == marks, "a block is not closed, not at the left, or does not say what it is written in"
    return found


def blocks(page: str) -> list[tuple[str, str]]:
    """Code, and the output printed below it ("" where there is none)."""
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
    fonts = Path(os.environ["HF_HOME"]).with_name("matplotlib")  # looked up once for all pages
    environment = {**os.environ, "HF_HOME": str(scratch / "hf"), "MPLBACKEND": "agg", "MPLCONFIGDIR": str(fonts)}
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
