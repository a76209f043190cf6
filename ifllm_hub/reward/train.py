"""Train the reward model on a dataset, evaluate it by the protocol, and save both with a card."""

import json
from importlib.metadata import version
from pathlib import Path

from ifllm_hub import __version__
from ifllm_hub.features.catalog import CATALOG
from ifllm_hub.features.centering import LESS_HABIT
from ifllm_hub.files import replacing_folder
from ifllm_hub.reward.card import model_card
from ifllm_hub.reward.model.config import Trained
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.persistence import CONFIG_FILE, LEADERBOARD_FILE, save_model
from ifllm_hub.reward.protocol.candidates import FOREST
from ifllm_hub.reward.protocol.leaderboard import Board, data_source, leaderboard
from ifllm_hub.reward.protocol.pairs import FEATURES, labeled, load_pairs
from ifllm_hub.terms import Advance


def train_reward(
    dataset: str | Path,
    out: Path,
    seeds: int = 20,
    all_workers: bool = False,
    n_jobs: int = 1,
    revision: str | None = None,
    advance: Advance | None = None,
) -> Board:
    """Write a model folder: the model fitted on all labeled pairs, its config, its leaderboard and its card.

    Args:
        dataset: a dataset folder or Hub repo id.
        seeds: of the protocol; use at least 20 for claims.
        all_workers: train and evaluate also on the workers on the authors' exclusion list.
        n_jobs: processes for the protocol.
        advance: called with the share done (0-1).

    Returns:
        The leaderboard.

    Raises:
        IfllmError: the dataset cannot be used, or `out` cannot be written.
    """
    source = data_source(dataset, revision)
    pairs = labeled(load_pairs(dataset, source.get("revision")), all_workers)
    with replacing_folder(out, CONFIG_FILE) as folder:
        board = leaderboard(pairs, seeds, n_jobs, advance)
        model = ImplicitFeedbackRewardModel().fit(pairs.X(), pairs.y, pairs.groups("worker_id"))
        units = {feature.name: feature.unit for feature in (*CATALOG, *LESS_HABIT)}
        config: Trained = {
            "features": [{"name": name, "unit": units[name]} for name in FEATURES],
            "training": {
                **source,
                "pairs": board["pairs"],
                "workers": board["workers"],
                "excluded_workers_kept": all_workers,
            },
            "protocol": {
                row["protocol"]: {
                    "accuracy": row["accuracy"],
                    "auc": row["auc"],
                    "brier": row["brier"],
                    "ece": row["ece"],
                    "accuracy_at_50": row["accuracy_at_50"],
                }
                for row in board["rows"]
                if row["model"] == FOREST.name
            },
            "seeds": seeds,
            "versions": {"ifllm_hub": __version__, **{name: version(name) for name in ("scikit-learn", "skops")}},
        }
        save_model(model, folder, config)
        (folder / LEADERBOARD_FILE).write_text(json.dumps(board, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(model_card(config, board), encoding="utf-8")
    return board
