"""The fixture `hub`: a loopback Hub, with `huggingface_hub` in this process pointed at it; datasets to publish."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.writers import replace_configs
from tests.conftest import made_once
from tests.hub.publishing import REPO
from tests.hub.server import WRITE_TOKEN, Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty Hub of this test. Clients in this process use it and may write to `lab/...` and `ada/...`.

    `datasets` and the command line read their settings when they are imported: run them with `client.run`.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    with Hub(tmp_path / "hub") as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_TOKEN", WRITE_TOKEN)
        yield hub
        close_session()


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries of `huggingface_hub` follow at once. Their number stays."""
    hasty = SimpleNamespace(**{**vars(time), "sleep": lambda seconds: None})
    for module in ("utils._http", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time", hasty)


@pytest.fixture(scope="session")
def old(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder, as built, with one more figure; its card names the repo. Read only."""

    def make(folder: Path) -> None:
        shutil.copytree(dataset, folder)
        (folder / "figures" / "old.png").write_bytes(b"to be deleted")
        write_card(folder, REPO)

    return made_once("published-old", make, tmp_path_factory)


@pytest.fixture(scope="session")
def new(labeled_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next version: another config, a row less in `pairwise`, and a figure less. Read only."""

    def make(folder: Path) -> None:
        shutil.copytree(labeled_dataset, folder)
        replace_configs(folder, {"pairwise": load_config(folder, "pairwise")[1:]})
        write_card(folder, REPO)

    return made_once("published-new", make, tmp_path_factory)
