"""A small model of the simulated study, and its folder."""

from pathlib import Path

import pytest

from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.persistence import save_model
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs


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
