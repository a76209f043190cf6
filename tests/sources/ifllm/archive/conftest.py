"""A release that is quick to pack, a copy of it that a test may spoil, and a cache."""

import shutil
from pathlib import Path

import pytest

from ifllm_hub.sources.ifllm import archive as source
from ifllm_hub.sources.ifllm.archive import Release


@pytest.fixture(scope="module")
def small(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables and two conversations of the simulated release: quick to pack."""
    root = tmp_path_factory.mktemp("small") / "dataset"
    for kind in (True, False):
        task = next(task for task in release.tasks if task.pairwise is kind)
        shutil.copytree(task.path, root / task.path.relative_to(release.root))
    for table in source.TABLES:
        shutil.copy(release.root / table, root / table)
    return root


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small, tmp_path / "copy")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
