"""Answers to judge."""

from pathlib import Path

import pytest

from tests.evaluation.conftest import write_answers


@pytest.fixture
def answers(tmp_path: Path) -> tuple[Path, Path]:
    """Six answers each; the model's are the long ones."""
    model = [f"A long and careful answer to {number}, with all there is to say." for number in range(6)]
    baseline = [f"Short {number}." for number in range(6)]
    return (
        write_answers(tmp_path / "model.parquet", "model", model),
        write_answers(tmp_path / "baseline.parquet", "baseline", baseline),
    )
