"""The blocks of a Markdown page: by name, or those of Python, run one after the other as its reader would."""

import os
import re
import subprocess
import sys
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
    found = list(_FENCE.finditer(page))
    assert len(found) * 2 == len(re.findall("^ *```", page, re.MULTILINE)), "a block is not closed, or not at the left"
    named = {match["name"]: Fence(match["language"], match["code"]) for match in found}
    assert len(named) == len(found), "two blocks have one name, or none"
    return named


def blocks(page: str) -> list[tuple[str, str]]:
    """Code, and the output printed below it ("" where there is none)."""
    return [(match["code"], match["output"] or "") for match in _BLOCK.finditer(page)]


def run(page: str, folder: Path, scratch: Path) -> list[str]:
    """What each block prints when `ORG/ifllm` is a dataset folder. One new process; warnings are errors in it."""
    ends = f"\nprint(end={_END!r}, flush=True)\n"
    code = "".join(block + ends for block, _ in blocks(page))
    code = code.replace(f"hf://datasets/{PLACEHOLDER}", str(folder)).replace(PLACEHOLDER, str(folder))
    # A thread of a stream may outlive it and abort the interpreter at its end: huggingface/datasets#7566.
    (scratch / "page.py").write_text(code + "import os\nos._exit(0)\n")
    environment = {**os.environ, "HF_HOME": str(scratch / "hf"), "MPLBACKEND": "agg", "MPLCONFIGDIR": str(scratch)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "page.py"],
        cwd=scratch,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split(_END)[:-1]
