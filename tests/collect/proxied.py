"""A study at every address of the machine: `python -m tests.collect.proxied FOLDER PORT [proxied]`.

With a third word it is at /lab/study/ behind a proxy.
"""

import os
import sys
from pathlib import Path
from typing import Any

import uvicorn

from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.study.app import create_study_app
from ifllm_hub.collect.study.settings import StudySettings

PATH = "/lab/study"


class Proxy:
    """Takes a path off, as nginx does; what is asked without it is the app without a proxy."""

    def __init__(self, app: Any, path: str):
        self._app, self._path = app, path

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._path and scope.get("path", "").startswith(self._path):
            path = scope["path"].removeprefix(self._path)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


if __name__ == "__main__":
    folder, port, *proxied = sys.argv[1:]
    if proxied:
        os.environ["GRADIO_ROOT_PATH"] = PATH
    settings = StudySettings(Settings(Path(folder)), models=("echo",), protocol="pointwise", contact="Ada")
    uvicorn.run(Proxy(create_study_app(settings), PATH), host="0.0.0.0", port=int(port), log_level="warning")
