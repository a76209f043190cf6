"""Training from a dataset folder to a model folder, and the model that ships with the package."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward import train
from ifllm_hub.reward.card import model_card
from ifllm_hub.reward.functions import default_model
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.persistence import load_model
from ifllm_hub.reward.protocol.candidates import FOREST
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs
from ifllm_hub.reward.train import train_reward


def board(pairs: Pairs, seeds: int, *args: Any) -> dict[str, Any]:
    """A leaderboard without the hours: numbers that cannot be mistaken for others."""

    def interval(mean: float) -> dict[str, float]:
        return {"mean": mean, "sd": 0.011, "low": mean - 0.1, "high": mean + 0.1}

    def row(model: str, protocol: str, accuracy: float) -> dict[str, Any]:
        return {
            "model": model,
            "protocol": protocol,
            "accuracy": interval(accuracy),
            "auc": interval(0.651),
            "brier": 0.2277,
            "ece": 0.014,
            "accuracy_at_50": 0.697,
            "gain_over_longer_answer": interval(0.019),
            "adjusted": {"accuracy": {"low": -0.1, "high": 0.14, "p": 0.4}},
            "reliability": [],
        }

    return {
        "pairs": len(pairs),
        "workers": pairs.rows["worker_id"].n_unique(),
        "effective_workers": 9.5,
        "detectable_gain": 0.061,
        "seeds": seeds,
        "rows": [
            row("longer answer", "worker", 0.601),
            row(FOREST.name, "worker", 0.632),
            row(FOREST.name, "question", 0.7),
        ],
        "permuted_labels": {"worker": {"mean": 0.497, "sd": 0.023}},
    }


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "leaderboard", board)


@pytest.fixture(scope="module")
def trained_once(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "reward"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "leaderboard", board)
        train_reward(study, out, seeds=7)
    return out


@pytest.fixture
def trained(trained_once: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained_once, tmp_path / "reward")


def test_the_saved_model_is_grown_on_all_labeled_pairs(trained: Path, pairs: Pairs) -> None:
    model, config = load_model(trained)
    again = ImplicitFeedbackRewardModel().fit(pairs.X(), pairs.y, pairs.groups("worker_id"))
    assert np.array_equal(model.predict_proba(pairs.X()), again.predict_proba(pairs.X()))
    assert [feature["name"] for feature in config["features"]] == list(FEATURES)


def test_config_says_what_it_was_trained_on(trained: Path, study: Path, pairs: Pairs) -> None:
    config = json.loads((trained / "config.json").read_text())
    assert config["training"] == {
        "release_sha256": json.loads((study / "manifest.json").read_text())["release_sha256"],
        "is_the_released_data": False,
        "pairs": len(pairs),
        "workers": 16,
        "excluded_workers_kept": False,
    }
    assert config["seeds"] == 7
    assert config["protocol"]["worker"]["accuracy"]["mean"] == 0.632
    assert config["protocol"]["question"]["accuracy"]["mean"] == 0.7
    assert all(feature["unit"] for feature in config["features"])


def test_card_tells_the_numbers_and_that_the_data_is_simulated(trained: Path, pairs: Pairs) -> None:
    card = (trained / "README.md").read_text()
    config, stored = (json.loads((trained / file).read_text()) for file in ("config.json", "leaderboard.json"))
    assert card == model_card(config, stored)
    assert stored == board(pairs, 7)
    assert yaml.safe_load(card.split("---")[1])["library_name"] == "ifllm_hub"
    assert "**Trained on simulated or modified data, not on the study's**" in card
    assert f"{len(pairs)} pairs, 16 workers, 7 seeds" in card
    assert f"| {FOREST.name} | 0.632 [0.532, 0.732] | 0.651 [0.551, 0.751] | 0.2277 | 0.014 | 0.697 | +0.019 [" in card
    assert "0.700 [" not in card, "a protocol that shares workers"
    assert "0.497 (sd 0.023)" in card
    assert all(f"`{name}`" in card for name in FEATURES)


def test_the_snippet_on_the_card_runs(trained: Path, pairs: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    snippet = (trained / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(trained)
    scope: dict[str, Any] = {"X": pairs.X()}
    exec(snippet, scope)
    assert scope["probability_left"].shape == (len(pairs),)


def test_a_second_training_that_fails_leaves_the_first(
    quick: None, trained: Path, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in trained.iterdir()}

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "model_card", killed)
    with pytest.raises(KeyboardInterrupt):
        train_reward(study, trained, seeds=1)
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before
    assert [path.name for path in trained.parent.iterdir()] == [trained.name]


def test_somebody_elses_folder_is_left_alone(quick: None, study: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("Dear Mr Weber")
    with pytest.raises(IfllmError, match=r"was not made by this command \(no config\.json\)"):
        train_reward(study, tmp_path, seeds=1)
    assert (tmp_path / "letter.txt").read_text() == "Dear Mr Weber"


def test_the_model_in_the_package_is_small_and_says_what_it_is() -> None:
    folder = default_model()
    assert sum(path.stat().st_size for path in folder.iterdir()) < 500_000
    _, config = load_model(folder)
    card = (folder / "README.md").read_text()
    training = config["training"]
    assert training["is_the_released_data"] is True
    assert "simulated" not in card
    assert f"Trained on {training['pairs']} rated pairs of {training['workers']} workers" in card
    assert f"{training['pairs']} pairs, {training['workers']} workers, {config['seeds']} seeds" in card
    assert config["seeds"] >= 20
    assert training["pairs"] > 600


def test_the_model_in_the_package_prefers_what_was_read() -> None:
    model, config = load_model(default_model())
    assert [feature["name"] for feature in config["features"]] == list(FEATURES)
    nothing = np.full(len(FEATURES), np.nan)
    read_left = {
        "mouse_dwell_log_ratio_centered": 1.5,
        "mouse_coverage_diff_centered": 0.3,
        "length_log_ratio": 0.5,
    }
    left = np.array([read_left.get(name, np.nan) for name in FEATURES])
    p = model.predict_proba(np.array([nothing, left, -left]))[:, 1]
    assert p[0] == 0.5
    assert p[1] > 0.65
    assert p[1] + p[2] == pytest.approx(1)


def test_the_card_in_the_package_is_written_from_its_leaderboard() -> None:
    folder = default_model()
    _, config = load_model(folder)
    stored = json.loads((folder / "leaderboard.json").read_text())
    assert (folder / "README.md").read_text() == model_card(config, stored)
    forest = {row["protocol"]: row["accuracy"] for row in stored["rows"] if row["model"] == FOREST.name}
    assert {name: numbers["accuracy"] for name, numbers in config["protocol"].items()} == forest


@pytest.mark.slow
def test_a_whole_training_by_the_command_line(study: Path, tmp_path: Path) -> None:
    """Nothing replaced: the leaderboard of the card is that of the protocol, and the forest beats the majority."""
    from typer.testing import CliRunner

    from ifllm_hub.cli import app

    done = CliRunner().invoke(app, ["reward", str(study), "--out", str(tmp_path / "reward"), "--seeds", "1"])
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "reward" / "leaderboard.json").read_text())
    accuracy = {row["model"]: row["accuracy"]["mean"] for row in stored["rows"] if row["protocol"] == "worker"}
    assert accuracy[FOREST.name] > accuracy["majority side"]
    load_model(tmp_path / "reward")
