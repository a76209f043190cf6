"""What must be at chance on the authors' release: meaningless labels, and the last seconds before the rating."""

from pathlib import Path

import polars as pl
import pytest

from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.extract import extract_features
from ifllm_hub.reward.candidates import FOREST, logistic
from ifllm_hub.reward.leaderboard import NULLS, Job
from ifllm_hub.reward.pairs import MOUSE_FEATURES, Pairs, labelled, load_pairs
from ifllm_hub.reward.protocol import auc, correct, out_of_fold

pytestmark = pytest.mark.real

LAST_MS = 5_000


@pytest.fixture(scope="module")
def folder(real_dataset: tuple[Path, float]) -> Path:
    return real_dataset[0]


def last_seconds(trajectories: pl.DataFrame) -> pl.DataFrame:
    """The trajectories from five seconds before the cursor was last on a text."""
    ticks = ("t", "mouse_char_left", "mouse_char_right", "gaze_char_left", "gaze_char_right")
    on_text = pl.any_horizontal(pl.col("mouse_char_left", "mouse_char_right") >= 0)
    end = pl.col("t").filter(on_text).max().over("question_id")
    cut = (
        trajectories.select("question_id", *ticks)
        .explode(ticks)
        .filter(pl.col("t") >= end - LAST_MS)
        .group_by("question_id", maintain_order=True)
        .agg(ticks)
    )
    return trajectories.drop(ticks).join(cut, on="question_id")


def test_the_last_seconds_do_not_tell_the_preference_and_the_whole_reading_does(folder: Path) -> None:
    """Reading just before the rating could be part of the rating (headroom.md 2); it would show here."""
    pairs = labelled(load_pairs(folder))
    known = pairs.filter(pl.col("mouse_dwell_log_ratio").is_not_null())
    kept = pl.col("question_id").is_in(known.rows["question_id"].to_list())
    features = extract_features(last_seconds(load_config(folder, "trajectories").filter(kept)))
    late = Pairs(
        known.rows.drop(MOUSE_FEATURES).join(features.select("question_id", *MOUSE_FEATURES), on="question_id")
    )
    assert len(late) == len(known) > 640
    accuracy, area = {}, {}
    for name, some in (("whole", known), ("last", late)):
        probability = out_of_fold(some, logistic(MOUSE_FEATURES), "worker", 5)
        accuracy[name], area[name] = correct(probability, some.y).mean(), auc(probability, some.y).mean()
    # Two standard errors of a share of 650 pairs.
    assert abs(accuracy["last"] - 0.5) < 0.04, accuracy
    assert area["last"] < 0.56, area
    assert accuracy["whole"] > 0.56, accuracy
    assert area["whole"] > 0.6, area


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["conversation", "worker"])
@pytest.mark.parametrize("null", NULLS)
def test_the_forest_is_at_chance_on_labels_that_mean_nothing(folder: Path, null: str, protocol: str) -> None:
    accuracies = Job(protocol, 20, FOREST, null).run(labelled(load_pairs(folder)))
    assert abs(accuracies.mean() - 0.5) < 0.02
