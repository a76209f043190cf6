"""Hugging Face clients in a process of their own, with the loopback Hub as their only Hub."""

import os
import subprocess
import sys
from pathlib import Path

from tests.hub.server import WRITE_TOKEN, Hub


def environment(hub: Hub, home: Path, token: str | None = WRITE_TOKEN, xet: bool = False) -> dict[str, str]:
    """Environment variables of a client: unmodified but for where its Hub is, with an empty home folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return {
        **inherited,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "0" if xet else "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "1",  # hf_xet would go on trying for minutes
        **({"HF_TOKEN": token} if token else {}),
    }


def run(hub: Hub, home: Path, *words: object, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a command (`python -c ...` when it is one word: code) as a client; see `environment` for `more`."""
    command = [sys.executable, "-c", words[0]] if len(words) == 1 else [str(word) for word in words]
    return subprocess.run(command, env=environment(hub, home, **more), capture_output=True, text=True, timeout=300)
