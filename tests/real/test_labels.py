"""The labels of the real release by the models as they ship."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.preferences.labels import agreement, write_preferences

pytestmark = pytest.mark.real


@pytest.mark.slow
def test_polarity_on_the_real_release(real_dataset: tuple[Path, float], tmp_path: Path) -> None:
    shutil.copytree(real_dataset[0], tmp_path / "dataset")
    rows = write_preferences(tmp_path / "dataset")
    untied = rows.filter(
        (pl.col("label_source") == "explicit") & (pl.col("rating_chosen") != pl.col("rating_rejected"))
    )
    assert untied.height > 400
    assert (untied["rating_chosen"] > untied["rating_rejected"]).mean() > 0.9
    assert all(0.55 < share < 0.75 for share in agreement(rows).values())
