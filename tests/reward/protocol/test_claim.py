"""The registered claim: what it says, and what its test says of a dataset."""

import hashlib
import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from joblib import parallel_config
from typer.testing import CliRunner

from ifllm_hub.cli import app
from ifllm_hub.dataset.manifest import Origin
from ifllm_hub.features.centering import PRIOR_READINGS
from ifllm_hub.reward.protocol import claim as module
from ifllm_hub.reward.protocol.candidates import FULL, logistic
from ifllm_hub.reward.protocol.claim import (
    CLAIM,
    FEATURE_SETS,
    Claim,
    claim_page,
    claim_sentence,
    evaluate_claim,
)
from ifllm_hub.reward.protocol.folds import out_of_fold
from ifllm_hub.reward.protocol.pairs import Pairs, load_pairs
from ifllm_hub.reward.protocol.permutation import permutation_test
from ifllm_hub.reward.protocol.scores import score
from ifllm_hub.reward.train import train_reward
from tests.conftest import few_trees

REGISTERED = "8c0a8730790cddb522e2c7bc7dc44684b7654f76465dcbdf5feffc6c6e8f3fa5"


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """Two feature sets instead of eight, one seed, one process."""
    with pytest.MonkeyPatch.context() as patch, parallel_config("sequential"):
        patch.setattr(module, "FEATURE_SETS", {name: FEATURE_SETS[name] for name in ("mouse + gaze", "mouse")})
        patch.setattr(module, "_TEST_SEEDS", 1)
        yield


@pytest.fixture(scope="module")
def claim(quick: None, study: Path) -> Claim:
    return evaluate_claim(study, draws=9)


def test_the_effect_is_that_of_the_leaderboard(claim: Claim, pairs: Pairs) -> None:
    ours, longer = (
        next(one for one in FULL if one.name == name) for name in ("logistic: mouse + gaze + length", "longer answer")
    )
    told = [out_of_fold(pairs, one.fit, "worker", 20) for one in (ours, longer)]
    row = score(*told, pairs)
    assert claim["effects"]["accuracy"] == pytest.approx(row["gain_over_longer_answer"])
    assert claim["effects"]["brier"] == pytest.approx(row["brier_over_longer_answer"])
    assert (claim["pairs"], claim["workers"]) == (len(pairs), pairs.rows["worker_id"].n_unique())
    assert claim["origin"] == "simulated"


def test_the_test_is_the_permutation_given_length(claim: Claim, study: Path) -> None:
    assert claim["permuted"] == permutation_test(load_pairs(study), module.FEATURE_SETS, draws=9, seeds=1)


def test_the_page_says_what_was_found(claim: Claim) -> None:
    page = claim_page(claim)
    assert CLAIM in page
    assert claim_sentence(claim) in page
    assert "was formed on this data" not in page
    assert "was formed on this data" in claim_page(claim | {"origin": "study"})
    best = claim["permuted"]["best_p"]["brier"]
    assert f"| **best of all**, adjusted |  |  |  | {best:.3f} |" in page


@pytest.mark.parametrize(
    ("p", "words"),
    [(0.05, "reading says something about"), (0.051, "this data does not show that reading")],
)
def test_the_sentence_follows_from_the_p_value_of_the_claim(claim: Claim, p: float, words: str) -> None:
    permuted = claim["permuted"]
    sets = permuted["p"] | {"mouse + gaze": {"accuracy": 0.9, "auc": 0.9, "brier": p}}
    sentence = claim_sentence(claim | {"permuted": permuted | {"p": sets, "smallest_p": 0.001}})
    assert words in sentence
    assert f"(p = {p:.3f})" in sentence


def test_what_cannot_be_tested_is_not_denied(claim: Claim) -> None:
    sentence = claim_sentence(claim | {"permuted": claim["permuted"] | {"smallest_p": 0.1, "exchanged": 2}})
    assert "the claim cannot be tested" in sentence
    assert "2 can exchange" in sentence
    assert "does not show" not in sentence


@pytest.mark.parametrize(("origin", "words"), [("study", "confirms nothing"), ("unknown", "confirms nothing")])
def test_the_sentence_says_where_the_data_is_from(claim: Claim, origin: Origin, words: str) -> None:
    assert words in claim_sentence(claim | {"origin": origin})
    assert words not in claim_sentence(claim | {"origin": "collected"})
    assert "simulated or modified" in claim_sentence(claim)


@pytest.fixture(scope="module")
def collected(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same data, as if it had been collected."""
    folder = tmp_path_factory.mktemp("collected") / "dataset"
    shutil.copytree(study, folder)
    (folder / "manifest.json").write_text(json.dumps({"collected": True, "people": 16}))
    return folder


def test_collected_data_is_tested_and_trained_on(collected: Path, claim: Claim, tmp_path: Path) -> None:
    of_people = evaluate_claim(collected, draws=9)
    assert of_people["origin"] == "collected"
    assert of_people["permuted"] == claim["permuted"]
    assert claim_sentence(of_people).endswith("points (95 %).")
    with few_trees():
        train_reward(collected, tmp_path / "reward", seeds=1)
    digest = hashlib.sha256((collected / "manifest.json").read_bytes()).hexdigest()
    assert f"collected dataset {digest[:12]}" in (tmp_path / "reward" / "README.md").read_text()


def test_what_was_registered_stays() -> None:
    """Another claim is another registration: with a date, beside this one."""
    assert hashlib.sha256(CLAIM.encode()).hexdigest() == REGISTERED
    assert CLAIM in (Path(__file__).parents[3] / "docs/results/claim.md").read_text(encoding="utf-8")
    assert (module.ALPHA, module._SEEDS, module._MEASURE, module._PRIMARY) == (0.05, 20, "brier", "mouse + gaze")
    assert all(f"`{name}`" in CLAIM for name in FEATURE_SETS["mouse + gaze"])
    assert inspect.signature(evaluate_claim).parameters["draws"].default == 999
    assert inspect.signature(logistic).parameters["C"].default == 1
    assert PRIOR_READINGS == 3
    source = inspect.getsource(module)
    assert "\n_TEST_SEEDS = 3\n" in source


def test_the_command(study: Path, tmp_path: Path, claim: Claim) -> None:
    done = CliRunner().invoke(app, ["claim", str(study), "--draws", "9", "--out", str(tmp_path / "claim.md")])
    assert done.exit_code == 0, done.output
    assert " ".join(done.output.split()) == claim_sentence(claim)
    assert (tmp_path / "claim.md").read_text() == claim_page(claim)
