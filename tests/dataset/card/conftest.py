"""A copy of the dataset that a test may change."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(dataset, tmp_path / "copy")
