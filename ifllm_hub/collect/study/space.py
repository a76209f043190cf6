"""The study as a Hugging Face Space: a folder of three files, pushed in one commit."""

import json
import os
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import constants

from ifllm_hub import __version__
from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.study.app import run_study
from ifllm_hub.collect.study.models import model_of
from ifllm_hub.collect.study.settings import StudySettings
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import read_json, replacing_folder
from ifllm_hub.hub import Kind, commit_files, files_to_push

SETTINGS_FILE = "study.json"
# SQLAlchemy URL; a secret of the Space. Without it, the store is a file on the Space's disk.
DATABASE = "IFLLM_COLLECT_DATABASE"
# Where a Space's persistent storage is mounted.
_DISK = Path("/data")
# The collector's settings that a Space keeps.
_OF_COLLECTOR = ("retention_days", "dataset_repo", "publish_minutes", "least_people")
_APP = '''"""The study; its settings are in study.json. Made by `ifllm collect space`."""

from pathlib import Path

from ifllm_hub.collect.study.space import run_space

run_space(Path(__file__).parent)
'''
_SPACE = Kind(
    "study",
    "space",
    ("README.md", "app.py", "requirements.txt", SETTINGS_FILE),
    sign=SETTINGS_FILE,
    is_ours=lambda settings: isinstance(settings, dict) and {"models", "contact", *_OF_COLLECTOR} <= settings.keys(),
)
_ABOUT = """
People chat with language models here and rate the answers; if they agree, the position of their mouse pointer over an
answer is recorded. Responsible: {contact}.

Before opening this Space to people, its owner must set:

- A place that outlasts a restart: persistent storage (mounted at `/data`), or the secret `IFLLM_COLLECT_DATABASE`, the
  URL of a PostgreSQL database. Without either, everything collected is lost when the Space restarts.
- Without persistent storage also the secrets `IFLLM_COLLECT_SIGNING_KEYS`, `IFLLM_COLLECT_PSEUDONYM_KEY` and
  `IFLLM_COLLECT_API_KEY`, each at least 16 random characters.
- For models at Inference Providers, and for a dataset repo to publish to, the secret `HF_TOKEN`; for other endpoints
  `IFLLM_STUDY_ENDPOINT_KEY`.

Models: {models}. Protocol: {protocol}.
"""


def write_space(settings: StudySettings, folder: Path) -> None:
    """Write a Space's folder: `app.py`, `requirements.txt`, `README.md` with its header, and `study.json`.

    From `settings.collector` it keeps the retention and the publication; where a Space stores is set in the Space.

    Args:
        folder: replaced as a whole if it is an earlier one.

    Raises:
        IfllmError: a spec names no model, the study has a camera, or the folder cannot be written or holds something
            else.
    """
    if settings.camera is not None:
        raise IfllmError("A Space has no camera: run a study with a camera on a server of yours.")
    for spec in settings.models:
        model_of(spec)
    chosen: dict[str, Any] = {name: value for name, value in asdict(settings).items() if name != "collector"}
    chosen |= {name: getattr(settings.collector, name) for name in _OF_COLLECTOR}
    local = any(spec.startswith("local:") for spec in settings.models)
    header = {
        "title": settings.title,
        "sdk": "gradio",
        "sdk_version": version("gradio"),
        "app_file": "app.py",
        "pinned": False,
        "header": "mini",
    }
    about = _ABOUT.format(contact=settings.contact, models=", ".join(settings.models), protocol=settings.protocol)
    written = yaml.safe_dump(header, sort_keys=False, allow_unicode=True)
    contents = {
        "app.py": _APP,
        "requirements.txt": f"ifllm_hub[collect{',train' if local else ''}]=={__version__}\n",
        "README.md": f"---\n{written}---\n\n# {settings.title}\n{about}",
        SETTINGS_FILE: json.dumps(chosen, indent=2) + "\n",
    }
    with replacing_folder(folder, SETTINGS_FILE) as partial:
        for name, content in contents.items():
            (partial / name).write_text(content)


def push_space(folder: Path, repo_id: str, private: bool = True) -> str:
    """Push a Space's folder in one commit; the Space is created if there is none.

    Args:
        private: make a new Space private. An existing one stays as it is.

    Returns:
        The Space's address.

    Raises:
        IfllmError: `write_space` did not write the folder, the Space holds something else, permission is missing, or
            the Hub failed.
    """
    files = files_to_push(folder, _SPACE)
    if set(files) != set(_SPACE.files):
        raise IfllmError(f"{folder}: not the Space of a study ({', '.join(_SPACE.files)}). Write it first.")
    commit_files(files, repo_id, _SPACE, private)
    return f"{constants.ENDPOINT}/spaces/{repo_id}"


def run_space(folder: Path) -> None:
    """Run the study of a Space's folder, inside the Space.

    Raises:
        IfllmError: this is not a Space, or its settings are damaged; see `run_study`.
    """
    run_study(space_settings(folder), host="0.0.0.0", port=7860, behind_proxy=True)


def space_settings(folder: Path) -> StudySettings:
    """The settings in a Space's folder, with this Space's own address and store.

    Raises:
        IfllmError: this is not a Space, or its settings are damaged.
    """
    host = os.environ.get("SPACE_HOST")
    if not host:
        raise IfllmError("SPACE_HOST is not set: this is not a Space. Run the study itself with `ifllm collect study`.")
    stored = dict(read_json(folder / SETTINGS_FILE))
    collecting = Settings(
        (_DISK if _DISK.is_dir() else folder) / "collected",
        database=os.environ.get(DATABASE),
        origins=(f"https://{host}",),
        **{name: stored.pop(name) for name in _OF_COLLECTOR if name in stored},
    )
    try:
        settings = StudySettings(collecting, **stored)
    except TypeError as error:
        raise IfllmError(f"{folder / SETTINGS_FILE}: {error}. Write the Space again.") from error
    return replace(settings, models=tuple(settings.models), topics=tuple(settings.topics))
