"""A simulated study large enough for statistics, its labeled pairs, and a saved model."""

from functools import partial
from pathlib import Path

import pytest

from ifllm_hub.dataset.build import build_dataset
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.persistence import save_model
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs, labeled, load_pairs
from ifllm_hub.sources.ifllm.archive import open_release
from ifllm_hub.sources.simulation.simulate import simulate_release
from tests.conftest import copy_and_label, made_once


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder with some 140 rated pairs of 16 workers. Read only."""

    def make(folder: Path) -> None:
        release = simulate_release(folder / "release", workers=24, questions=300, seed=0)
        build_dataset(open_release(release), folder / "dataset")

    return made_once("study", make, tmp_path_factory) / "dataset"


@pytest.fixture(scope="session")
def all_pairs(study: Path) -> Pairs:
    return load_pairs(study)


@pytest.fixture(scope="session")
def pairs(all_pairs: Pairs) -> Pairs:
    """The pairs a model learns from."""
    return labeled(all_pairs)


@pytest.fixture(scope="session")
def labeled_study(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `study` with the preferences of all label sources. Read only."""
    return made_once("labeled-study", partial(copy_and_label, study), tmp_path_factory)


@pytest.fixture(scope="session")
def small_model(pairs: Pairs) -> ImplicitFeedbackRewardModel:
    """Four trees, enough to rank answers. Read only."""
    return ImplicitFeedbackRewardModel(n_estimators=4).fit(pairs.X(), pairs.y, pairs.groups("worker_id"))


@pytest.fixture
def model_folder(small_model: ImplicitFeedbackRewardModel, tmp_path: Path) -> Path:
    """`small_model`, saved."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_model(small_model, folder, {"features": [{"name": name, "unit": "x"} for name in FEATURES]})
    return folder
