"""What the simulation puts into the reading comes out of the features: who reads an answer longer prefers it."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from ifllm_hub.dataset.load import load_config


@pytest.fixture(scope="module")
def pairs(study: Path) -> pl.DataFrame:
    truth = pl.read_parquet(study.parent / "release" / "ground_truth.parquet").drop("worker_id", "mode")
    joined = load_config(study, "features").join(truth, on="question_id")
    return joined.filter(pl.col("mode") == "pairwise", pl.col("mouse_dwell_diff").is_not_null(), ~pl.col("ai_error"))


def auc(pairs: pl.DataFrame, feature: str) -> float:
    known = pairs.filter(pl.col(feature).is_not_null())
    return roc_auc_score(known["latent_preference"] == "left", known[feature])


@pytest.mark.parametrize("feature", ["mouse_dwell_log_ratio", "gaze_dwell_log_ratio", "mouse_depth_diff"])
def test_the_latent_preference_shows_in_the_reading(pairs: pl.DataFrame, feature: str) -> None:
    assert pairs.height > 120
    assert auc(pairs, feature) > 0.6


@pytest.mark.parametrize("feature", ["mouse_first_side", "length_query"])
def test_what_cannot_know_the_preference_does_not(pairs: pl.DataFrame, feature: str) -> None:
    assert 0.38 < auc(pairs, feature) < 0.62


@pytest.mark.parametrize("side", ["left", "right"])
def test_dwell_measures_the_time_that_was_spent(pairs: pl.DataFrame, side: str) -> None:
    reading = pairs[f"reading_s_{side}"].to_numpy()
    for modality, least in (("gaze", 0.9), ("mouse", 0.6)):
        dwell = pairs[f"{modality}_dwell_{side}"].to_numpy() / 1000
        assert np.corrcoef(reading, dwell)[0, 1] > least
