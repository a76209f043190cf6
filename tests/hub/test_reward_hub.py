"""A reward model goes to the Hub in one commit and scores the same, to the bit, in a process that pulls it."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, eval_result_entries_to_yaml, parse_eval_result_entries

from ifllm_hub import ImplicitFeedbackReward, cli
from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.card import model_card
from ifllm_hub.reward.functions import BehaviorReward, default_model
from ifllm_hub.reward.model.estimator import ImplicitFeedbackRewardModel
from ifllm_hub.reward.model.flat_forest import FOREST_FILE
from ifllm_hub.reward.model.persistence import CONFIG_FILE, LEADERBOARD_FILE, MODEL_FILE, save_model
from ifllm_hub.reward.model.pretrained import CARD_FILE, EVALUATION_FILE, fetch_reward, push_reward
from ifllm_hub.reward.protocol.leaderboard import data_source
from ifllm_hub.reward.protocol.pairs import FEATURES, Pairs
from tests.hub import client
from tests.hub.publishing import content, send
from tests.hub.server import READ_TOKEN, Hub

REPO = "lab/ifllm-reward"
PULL = """
import json, sys
import numpy as np
from ifllm_hub import ImplicitFeedbackReward
reward = ImplicitFeedbackReward.from_pretrained(sys.argv[1], revision=sys.argv[2])
X = np.random.default_rng(0).normal(size=(50, len(reward.features))) * 100
print(json.dumps([value.hex() for value in reward.predict(X)]))
reward.save_pretrained(sys.argv[3])
"""


def test_it_scores_the_same_where_it_is_pulled(hub: Hub, tmp_path: Path) -> None:
    reward = ImplicitFeedbackReward.from_pretrained(default_model())
    commit = reward.push_to_hub(REPO)
    done = client.run(hub, tmp_path / "home", sys.executable, "-c", PULL, REPO, commit, tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    X = np.random.default_rng(0).normal(size=(50, len(FEATURES))) * 100
    assert json.loads(done.stdout) == [value.hex() for value in reward.predict(X)]
    assert content(tmp_path / "copy") == content(default_model())


def test_unchanged_content_makes_no_commit_and_a_revision_stays(hub: Hub, tmp_path: Path) -> None:
    first = push_reward(default_model(), REPO)
    assert push_reward(default_model(), REPO) == first
    other = Path(shutil.copytree(default_model(), tmp_path / "other"))
    with (other / "README.md").open("a") as card:
        card.write("Another sentence.")
    assert push_reward(other, REPO) != first
    pinned = fetch_reward(REPO, first)
    assert content(pinned) == content(default_model())
    assert content(fetch_reward(REPO)) == content(other) != content(pinned)


def trained(pairs: Pairs, folder: Path) -> Path:
    """The shipped folder with a model of these pairs, trained now."""
    shutil.copytree(default_model(), folder)
    config = json.loads((folder / CONFIG_FILE).read_text())
    model = ImplicitFeedbackRewardModel(n_estimators=4).fit(pairs.X(), pairs.y, pairs.groups("worker_id"))
    save_model(model, folder, {key: config[key] for key in config if key not in ("format", "slope", "sha256")})
    return folder


def test_a_model_trained_again_makes_no_commit(hub: Hub, pairs: Pairs, tmp_path: Path) -> None:
    first = push_reward(trained(pairs, tmp_path / "once"), REPO)
    assert push_reward(trained(pairs, tmp_path / "again"), REPO) == first
    fewer = pairs.filter(pl.int_range(pl.len()) > 0)
    assert push_reward(trained(fewer, tmp_path / "other"), REPO) != first


def test_a_file_that_was_changed_on_the_hub_is_refused(hub: Hub) -> None:
    first = push_reward(default_model(), REPO)
    forest = (default_model() / FOREST_FILE).read_bytes()
    HfApi().upload_file(path_or_fileobj=forest[:-1] + bytes([forest[-1] ^ 1]), path_in_repo=FOREST_FILE, repo_id=REPO)
    with pytest.raises(IfllmError, match=rf"{FOREST_FILE}: its sha256 is not the one"):
        ImplicitFeedbackReward.from_pretrained(REPO)
    ImplicitFeedbackReward.from_pretrained(REPO, revision=first)


def evaluated(folder: Path) -> dict[str, float]:
    """Of the forest under worker folds, as the leaderboard has it."""
    config, board = (json.loads((folder / name).read_text()) for name in (CONFIG_FILE, LEADERBOARD_FILE))
    numbers = config["protocol"]["worker"]
    (row,) = [
        row
        for row in board["rows"]
        if row["protocol"] == "worker" and all(row[key] == value for key, value in numbers.items())
    ]
    return {"accuracy": row["accuracy"]["mean"], "roc_auc": row["auc"]["mean"], "brier_score": row["brier"]}


def test_a_file_far_too_large_is_not_even_fetched(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    push_reward(default_model(), REPO)
    just_too_much = (default_model() / MODEL_FILE).stat().st_size - 1
    with monkeypatch.context() as patch:
        patch.setattr("ifllm_hub.reward.model.pretrained.MAX_FILE_BYTES", just_too_much)
        with pytest.raises(IfllmError, match=rf"{REPO}: {MODEL_FILE} has [\d,]+ bytes, far more than any of ours"):
            fetch_reward(REPO)
    assert content(fetch_reward(REPO)) == content(default_model())


def test_the_card_on_the_hub_has_the_results(hub: Hub) -> None:
    push_reward(default_model(), REPO)
    data = ModelCard.load(REPO).data
    assert {result.metric_type: result.metric_value for result in data.eval_results} == evaluated(default_model())
    release = json.loads((default_model() / CONFIG_FILE).read_text())["training"]["release_sha256"]
    assert {result.dataset_name for result in data.eval_results} == {f"IFLLM release {release[:12]}"}
    assert not HfApi().file_exists(REPO, EVALUATION_FILE), "there is no dataset on the Hub to name"


def test_results_on_a_hub_dataset_go_along(hub: Hub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(default_model(), tmp_path / "model"))
    config = json.loads((folder / CONFIG_FILE).read_text())
    revision = "5503434ddd753f426f4b38109466949a1217c2bb"
    config["training"] |= {"dataset": "lab/ifllm", "revision": revision}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    (folder / CARD_FILE).write_text(model_card(config, json.loads((folder / LEADERBOARD_FILE).read_text())))
    first = push_reward(folder, REPO)
    assert push_reward(folder, REPO) == first
    written = yaml.safe_load(Path(HfApi().hf_hub_download(REPO, EVALUATION_FILE)).read_text())
    entries = parse_eval_result_entries(written)
    assert eval_result_entries_to_yaml(entries) == written
    expected = {f"worker_folds_{metric}": value for metric, value in evaluated(folder).items()}
    assert {entry.task_id: entry.value for entry in entries} == expected
    assert {(entry.dataset_id, entry.dataset_revision) for entry in entries} == {("lab/ifllm", revision)}
    assert ModelCard.load(REPO).data.datasets == ["lab/ifllm"]
    assert {result.dataset_type for result in ModelCard.load(REPO).data.eval_results} == {"lab/ifllm"}
    push_reward(default_model(), REPO)
    assert not HfApi().file_exists(REPO, EVALUATION_FILE), "results of another model"


def test_a_dataset_on_the_hub_is_named_by_its_commit(hub: Hub, dataset: Path) -> None:
    commit, tag = send(dataset)
    expected = {"dataset": "lab/ifllm", "revision": commit}
    assert data_source("lab/ifllm", None) == data_source("lab/ifllm", tag) == expected
    with pytest.raises(IfllmError, match=r"lab/ifllm: not on the Hub.*Check the id and the revision"):
        data_source("lab/ifllm", "v9")
    with pytest.raises(IfllmError, match="nowhere: no such dataset folder, and not a Hub repo id"):
        data_source("nowhere", None)


def test_the_reward_function_takes_a_repo_id(hub: Hub) -> None:
    push_reward(default_model(), REPO)
    columns = {name: [1.0] for name in FEATURES}
    answers = {"response_left": ["a"], "response_right": ["b"]}
    here, there = BehaviorReward(), BehaviorReward(REPO, revision="main")
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
    (half / "README.md").write_text("---\n- no\n- mapping\n---\n")
    with pytest.raises(IfllmError, match=r"README\.md: its YAML header"):
        push_reward(half, REPO)
    silent = Path(shutil.copytree(default_model(), tmp_path / "silent"))
    config = json.loads((silent / CONFIG_FILE).read_text())
    config["training"] |= {"dataset": "lab/ifllm"}
    for key in ("protocol", "training"):
        del config[key]
        (silent / CONFIG_FILE).write_text(json.dumps(config))
        with pytest.raises(IfllmError, match=rf"{CONFIG_FILE}: does not say what the model was trained on"):
            push_reward(silent, REPO)
    assert hub.repos == {}
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(IfllmError, match=r"lab/ifllm-reward: this token may not write there"):
        push_reward(default_model(), REPO)


def an_llm() -> dict[str, bytes]:
    """In the repo, by somebody else."""
    contents = {
        "config.json": b'{"model_type": "qwen2"}',
        "README.md": b"---\nlicense: mit\n---\nTheirs.",
        "model.safetensors": b"1",
    }
    HfApi().create_repo(REPO)
    for path, theirs in contents.items():
        HfApi().upload_file(path_or_fileobj=theirs, path_in_repo=path, repo_id=REPO)
    return contents


def held(hub: Hub) -> dict[str, bytes]:
    files = hub.repos["model", REPO].main.files
    return {path: file.content for path, file in files.items() if path != ".gitattributes"}


def test_an_llm_is_not_overwritten(
    hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = an_llm()
    words = ["ifllm", "publish-reward", str(default_model()), REPO]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert f"{REPO}: exists on the Hub and was not made by this command" in capsys.readouterr().err
    assert held(hub) == theirs
    assert len(hub.repos["model", REPO].history("main")) == 1 + len(theirs)
    monkeypatch.setattr(sys, "argv", [*words, "--force"])
    with pytest.raises(SystemExit, match="0"):
        cli.main()
    assert held(hub) == content(default_model())


def test_files_of_others_are_neither_sent_nor_deleted(
    hub: Hub, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(default_model(), tmp_path / "model"))
    (folder / ".env").write_text("TOKEN=secret")
    push_reward(folder, REPO)
    assert f"{folder}: left out, not part of a reward model: .env" in caplog.messages
    HfApi().upload_file(path_or_fileobj=b"1", path_in_repo="onnx/model.onnx", repo_id=REPO)
    push_reward(folder, REPO)
    assert held(hub) == content(default_model()) | {"onnx/model.onnx": b"1"}


def test_a_link_is_not_followed_except_in_the_cache_of_the_hub(hub: Hub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(default_model(), tmp_path / "model"))
    (folder / LEADERBOARD_FILE).unlink()
    (tmp_path / "key").write_text("secret")
    (folder / LEADERBOARD_FILE).symlink_to(tmp_path / "key")
    with pytest.raises(IfllmError, match=rf"{LEADERBOARD_FILE}: not there, or a link"):
        push_reward(folder, REPO)
    assert hub.repos == {}
    push_reward(default_model(), REPO)
    fetched = ImplicitFeedbackReward.from_pretrained(REPO)
    assert (fetched.folder / CONFIG_FILE).is_symlink()
    fetched.push_to_hub("lab/copy")
    assert hub.repos["model", "lab/copy"].main.files == hub.repos["model", REPO].main.files


def test_what_cannot_be_fetched(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(IfllmError, match=r"lab/nothing: not on the Hub, or not visible"):
        fetch_reward("lab/nothing")
    push_reward(default_model(), REPO)
    with pytest.raises(IfllmError, match=r"lab/ifllm-reward: not on the Hub.*Check the id and the revision"):
        fetch_reward(REPO, "v7")
    with pytest.raises(IfllmError, match=r"lab/--: not a Hub repo id"):
        fetch_reward("lab/--")
    with pytest.raises(IfllmError, match="no such reward model folder"):
        fetch_reward(tmp_path / "nothing")
    with pytest.raises(IfllmError, match="no such reward model folder"):
        fetch_reward("nothing")
    with pytest.raises(IfllmError, match="has no revision"):
        fetch_reward(default_model(), "v1")
