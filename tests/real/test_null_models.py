"""What must be at chance on the authors' release: meaningless labels, and the last seconds before the rating."""

from pathlib import Path

import polars as pl
import pytest

from eval.studies.last_seconds import LAST, T
from eval.studies.window import off_text
from ifllm_hub.dataset.load import load_config
from ifllm_hub.features.centering import center_by_worker
from ifllm_hub.features.extract import extract_features
from ifllm_hub.reward.protocol.candidates import FOREST, logistic
from ifllm_hub.reward.protocol.folds import auc, out_of_fold
from ifllm_hub.reward.protocol.leaderboard import NULLS, Job
from ifllm_hub.reward.protocol.pairs import MOUSE_FEATURES, Pairs, labeled, load_pairs

pytestmark = pytest.mark.real

LAST_MS = 5_000


@pytest.fixture(scope="module")
def folder(real_dataset: tuple[Path, float]) -> Path:
    return real_dataset[0]


def test_the_reading_tells_the_preference_and_not_its_last_seconds(folder: Path) -> None:
    """Reading just before the rating could be the way to it (docs/format.md 5, docs/results/last_seconds.md)."""
    pairs = labeled(load_pairs(folder)).filter(pl.col("mouse_dwell_log_ratio").is_not_null())
    assert len(pairs) > 640
    trajectories = load_config(folder, "trajectories")
    area = {}
    for name, off in (("last", LAST - LAST_MS > T), ("earlier", LAST - LAST_MS <= T)):
        part = off_text(trajectories, off)
        workers = part.select("question_id", "worker_id")
        features = center_by_worker(extract_features(part).join(workers, on="question_id"))
        read = features.select("question_id", *MOUSE_FEATURES)
        cut = Pairs(pairs.rows.drop(MOUSE_FEATURES).join(read, on="question_id", how="left", maintain_order="left"))
        area[name] = auc(out_of_fold(cut, logistic(MOUSE_FEATURES), "worker", 5), cut.y).mean()
    assert area["earlier"] > 0.6, area
    assert area["last"] - 0.5 < (area["earlier"] - 0.5) / 2, area


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["conversation", "worker"])
@pytest.mark.parametrize("null", NULLS)
def test_the_forest_is_at_chance_on_labels_that_mean_nothing(folder: Path, null: str, protocol: str) -> None:
    accuracies = Job(protocol, 20, FOREST, null).run(labeled(load_pairs(folder)))
    assert abs(accuracies.mean() - 0.5) < 0.02
