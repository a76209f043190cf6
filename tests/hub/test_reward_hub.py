"""A reward model goes to the Hub in one commit and scores the same, to the bit, in a process that pulls it."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.forest import FOREST_FILE
from ifllm_hub.reward.functions import BehaviourReward, default_model
from ifllm_hub.reward.hub import fetch_reward, push_reward
from ifllm_hub.reward.pairs import FEATURES
from ifllm_hub.reward.persistence import load_forest
from tests.hub import client
from tests.hub.server import READ_TOKEN, Hub

REPO = "lab/ifllm-reward"
PULL = """
import json, sys
import numpy as np
from ifllm_hub.reward.hub import fetch_reward
from ifllm_hub.reward.persistence import load_forest
forest, config = load_forest(fetch_reward(sys.argv[1], sys.argv[2]))
X = np.random.default_rng(0).normal(size=(50, forest.width)) * 100
print(json.dumps([value.hex() for value in forest.predict(X)]))
"""


def test_it_scores_the_same_where_it_is_pulled(hub: Hub, tmp_path: Path) -> None:
    commit = push_reward(default_model(), REPO)
    done = client.run(hub, tmp_path / "home", sys.executable, "-c", PULL, REPO, commit)
    assert done.returncode == 0, done.stderr
    forest, _ = load_forest(default_model())
    X = np.random.default_rng(0).normal(size=(50, len(FEATURES))) * 100
    assert json.loads(done.stdout) == [value.hex() for value in forest.predict(X)]


def test_unchanged_content_makes_no_commit_and_a_revision_stays(hub: Hub, tmp_path: Path) -> None:
    first = push_reward(default_model(), REPO)
    assert push_reward(default_model(), REPO) == first
    other = Path(shutil.copytree(default_model(), tmp_path / "other"))
    with (other / "README.md").open("a") as card:
        card.write("Another sentence.")
    assert push_reward(other, REPO) != first
    assert load_forest(fetch_reward(REPO, first))[1] == load_forest(default_model())[1]


def test_the_reward_function_takes_a_repo_id(hub: Hub) -> None:
    push_reward(default_model(), REPO)
    columns = {name: [1.0] for name in FEATURES}
    answers = {"response_left": ["a"], "response_right": ["b"]}
    here, there = BehaviourReward(), BehaviourReward(REPO, revision="main")
    assert here(["q"], ["a"], **answers, **columns) == there(["q"], ["a"], **answers, **columns) != [None]


def test_what_cannot_be_pushed(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Path(shutil.copytree(default_model(), tmp_path / "broken"))
    (broken / FOREST_FILE).write_bytes(b"no forest")
    with pytest.raises(IfllmError, match="its sha256 is not the one"):
        push_reward(broken, REPO)
    half = Path(shutil.copytree(default_model(), tmp_path / "half"))
    (half / "README.md").unlink()
    with pytest.raises(IfllmError, match=r"README\.md: not there"):
        push_reward(half, REPO)
    assert hub.repos == {}
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(IfllmError, match=r"lab/ifllm-reward: cannot be pushed .*hf auth login"):
        push_reward(default_model(), REPO)


def test_what_cannot_be_fetched(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"lab/nothing: there is no such folder here"):
        fetch_reward("lab/nothing")
    with pytest.raises(IfllmError, match="no such reward model folder"):
        fetch_reward(tmp_path / "nothing")
    with pytest.raises(IfllmError, match="no such reward model folder"):
        fetch_reward("nothing")
    with pytest.raises(IfllmError, match="has no revision"):
        fetch_reward(default_model(), "v1")
