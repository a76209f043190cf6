"""The Python blocks of a Markdown page, run one after the other as its reader would, and what each of them printed."""

import os
import re
import subprocess
import sys
from pathlib import Path

PLACEHOLDER = "ORG/ifllm"

_BLOCK = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_END = "\x1e"


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
