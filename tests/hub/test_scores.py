"""A dataset of the Hub is scored where it lies; a repo is no place for scores."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi, HfFileSystem

from ifllm_hub.errors import IfllmError
from ifllm_hub.reward.scoring import score_dataset
from tests.dataset.folders import content
from tests.hub.server import Hub


def test_a_repo_gives_the_scores_of_its_folder(hub: Hub, dataset: Path, tmp_path: Path) -> None:
    HfFileSystem.clear_instance_cache()
    api = HfApi(endpoint=hub.url)
    api.create_repo("lab/d", repo_type="dataset")
    api.upload_folder(repo_id="lab/d", repo_type="dataset", folder_path=dataset)
    counts = score_dataset("lab/d", tmp_path / "there")
    assert counts == score_dataset(dataset, tmp_path / "here")
    assert content(tmp_path / "there/data") == content(tmp_path / "here/data")
    files = {path: path.stat().st_mtime_ns for path in tmp_path.glob("there/data/*/*")}
    assert score_dataset("lab/d", tmp_path / "there") == counts
    assert {path: path.stat().st_mtime_ns for path in files} == files
    with pytest.raises(IfllmError, match="every file would be a commit of this repo"):
        score_dataset(dataset, "hf://datasets/lab/scores")
    with pytest.raises(IfllmError, match=r"^hf://datasets/lab/none/data/features: cannot be used \(FileNotFoundError"):
        score_dataset("lab/none", tmp_path / "none")
