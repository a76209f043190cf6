"""What several commands share: arguments, options, and the error for missing packages."""

import importlib.util
from pathlib import Path
from typing import Annotated, Literal

import typer

from ifllm_hub.errors import IfllmError

DatasetArgument = Annotated[str, typer.Argument(help="A dataset folder or Hub repo id.", show_default=False)]
FolderArgument = Annotated[Path, typer.Argument(help="A dataset folder.", show_default=False)]
PrivateOption = Annotated[bool, typer.Option("--private", help="Make a new repo private.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace all of a repo that holds something else.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Fold and forest seeds; use 20 for claims.")]
AllWorkersOption = Annotated[bool, typer.Option(help="Keep the workers on the authors' exclusion list.")]
EngineOption = Annotated[
    Literal["local", "ray"], typer.Option(help="local: in this process; ray: on a Ray cluster.", show_default=True)
]
ShardsOption = Annotated[
    int, typer.Option(min=1, max=99_999, help="Files of each split of a config; a person's rows are in one of them.")
]
AddressOption = Annotated[
    str | None,
    typer.Option(help="Of a Ray cluster; default: RAY_ADDRESS, else this machine alone.", show_default=False),
]

# What a plain `pip install ifllm_hub` leaves out, by the extra that installs it.
_PACKAGES = {
    "collect": ("alembic", "fastapi", "gradio", "sqlalchemy", "uvicorn"),
    "train": ("torch", "transformers"),
}


def check_extra(what: str, extra: str) -> None:
    """Refuse to start if packages are missing.

    Args:
        what: the subject of the sentence, such as "The collector".
        extra: of pyproject.toml.

    Raises:
        IfllmError: the packages of the extra are not installed.
    """
    missing = [name for name in _PACKAGES[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise IfllmError(
            f"{what} needs {', '.join(missing)}, which this environment lacks. Install them: pip install "
            f"'ifllm_hub[{extra}]'"
        )
