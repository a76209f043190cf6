"""Datasets of every tier, of a release in which one worker refused and another has withdrawn. Read only."""

import shutil
from pathlib import Path

import pytest

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.dataset.manifest import TIERS
from ifllm_hub.sources.ifllm.archive import open_release
from tests.conftest import made_once
from tests.dataset.privacy.marked import (
    DEMOGRAPHICS,
    FREE_TEXT,
    UNKNOWN,
    Marked,
    rewrite,
    with_secret_windows,
    with_secrets,
)


@pytest.fixture(scope="module")
def marked(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Marked:
    root = shutil.copytree(simulated / "dataset", tmp_path_factory.mktemp("marked") / "dataset")
    recorded = sorted({task.worker_id for task in open_release(root).tasks})
    refused, withdrawn = recorded[0], recorded[-1]

    def record(number: int, row: dict[str, str]) -> dict[str, str]:
        consent = "0" if row["user_id"] == refused else row["consent"]
        return with_secrets(number, row, DEMOGRAPHICS) | {"consent": consent}

    rewrite(root / "record_info_table.csv", record)
    rewrite(root / "task_table.csv", lambda number, row: with_secrets(number, row, FREE_TEXT))
    for path in root.glob("user_behavior/*/*/rel_*.csv"):
        path.write_text(with_secret_windows(path.read_text(encoding="utf-8")), encoding="utf-8")
    return Marked(open_release(root), refused, withdrawn)


@pytest.fixture(scope="module", params=TIERS)
def tier(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(marked: Marked, tier: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without who withdrew."""

    def make(out: Path) -> None:
        build_dataset(marked.release, out, tier=tier, withdrawn=[marked.withdrawn, UNKNOWN])

    return made_once(f"tier-{tier}", make, tmp_path_factory)


@pytest.fixture(scope="module")
def before(marked: Marked, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built before anybody withdrew."""
    return made_once("before-withdrawal", lambda out: build_dataset(marked.release, out), tmp_path_factory)
