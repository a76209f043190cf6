"""What a judge found goes to the checkpoint's repo in one commit, and to nobody who may not write there."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, parse_eval_result_entries

from ifllm_hub.errors import IfllmError
from ifllm_hub.evaluation.comparison.checkpoint_card import CARD_FILE, RESULTS_FILE, add_results, push_results
from ifllm_hub.evaluation.comparison.compare import compare
from tests.evaluation.made import both, table
from tests.hub.server import READ_TOKEN, Hub

REPO = "lab/a-forest"
OURS = b'{"stage": "dpo", "versions": {"ifllm_hub": "0.1.0"}}'


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "a-forest"
    folder.mkdir()
    (folder / CARD_FILE).write_text("---\nbase_model: lab/a\n---\n\n# A\n")
    add_results(folder, compare(table(both(1, (7, 5), (6, 5))), draws=20), "lab/ifllm", "c0ffee")
    return folder


def test_card_and_results_are_one_commit_and_nothing_else_changes(hub: Hub, checkpoint: Path) -> None:
    api = HfApi()
    api.create_repo(REPO)
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=REPO)
    api.upload_file(path_or_fileobj=OURS, path_in_repo="results.json", repo_id=REPO)
    before = len(api.list_repo_commits(REPO))
    first = push_results(checkpoint, REPO)
    assert len(api.list_repo_commits(REPO)) == before + 1
    assert push_results(checkpoint, REPO) == first
    assert {CARD_FILE, RESULTS_FILE, "config.json", "results.json"} <= set(api.list_repo_files(REPO))
    assert {result.metric_type for result in ModelCard.load(REPO).data.eval_results} >= {"relative_quality", "win_rate"}
    entries = parse_eval_result_entries(yaml.safe_load(Path(api.hf_hub_download(REPO, RESULTS_FILE)).read_text()))
    assert {(entry.dataset_id, entry.dataset_revision) for entry in entries} == {("lab/ifllm", "c0ffee")}
    assert entries[0].value == 1.5


def test_where_it_cannot_go(hub: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(IfllmError, match=f"{REPO}: not on the Hub"):
        push_results(checkpoint, REPO)
    HfApi().create_repo(REPO)
    monkeypatch.setenv("HF_TOKEN", READ_TOKEN)
    with pytest.raises(IfllmError, match="this token may not write there"):
        push_results(checkpoint, REPO)


def test_the_card_of_somebody_elses_model_stays(hub: Hub, checkpoint: Path) -> None:
    api = HfApi()
    api.create_repo(REPO)
    for path, content in (("README.md", b"---\nlicense: mit\n---\n"), ("model.safetensors", b"1")):
        api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=REPO)
    before = hub.repos["model", REPO].main
    with pytest.raises(IfllmError, match=r"was not made by this command: it holds model\.safetensors, and no results"):
        push_results(checkpoint, REPO)
    assert hub.repos["model", REPO].main == before
