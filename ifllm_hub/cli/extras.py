"""What to say where a command needs packages that a plain `pip install ifllm_hub` leaves out."""

import importlib.util

from ifllm_hub.errors import IfllmError

_PACKAGES = {
    "collect": ("alembic", "fastapi", "gradio", "sqlalchemy", "uvicorn"),
    "train": ("torch", "transformers"),
}


def check_extra(what: str, extra: str) -> None:
    """Refuse to start where packages are missing.

    Args:
        what: the subject of the sentence, such as "The collector".
        extra: of pyproject.toml.

    Raises:
        IfllmError: the packages of the extra are not installed.
    """
    missing = [name for name in _PACKAGES[extra] if importlib.util.find_spec(name) is None]
    if missing:
        raise IfllmError(
            f"{what} needs {', '.join(missing)}, not installed here. Install them: pip install 'ifllm_hub[{extra}]'"
        )
