"""The study as a Space: what the folder holds, and what the loopback Hub gets."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi, RepoCard

from ifllm_hub.collect.settings import Settings
from ifllm_hub.collect.study import space
from ifllm_hub.collect.study.settings import StudySettings
from ifllm_hub.errors import IfllmError
from tests.hub.conftest import hub
from tests.hub.server import OTHER_TOKEN, Hub

__all__ = ["hub"]

REPO = "lab/reading-study"


def settings(folder: Path, **changes: object) -> StudySettings:
    named = {"models": ("hub:owner/a", "hub:owner/b"), "contact": "Ada, ada@example.org", "topics": ("Bees", "Tides")}
    return StudySettings(Settings(folder, retention_days=90), **{**named, **changes})  # type: ignore[arg-type]


def test_a_space_knows_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, title = tmp_path / "space", "Reading: a study # 1"
    space.write_space(settings(tmp_path, title=title), folder)
    assert {path.name for path in folder.iterdir()} == {"app.py", "requirements.txt", "README.md", "study.json"}
    compile((folder / "app.py").read_text(), "app.py", "exec")
    header = yaml.safe_load((folder / "README.md").read_text().split("---")[1])
    assert (header["sdk"], header["app_file"], header["title"]) == ("gradio", "app.py", title)
    assert (folder / "requirements.txt").read_text().startswith("ifllm_hub[collect]==")
    with pytest.raises(IfllmError, match="this is not a Space"):
        space.space_settings(folder)
    monkeypatch.setenv("SPACE_HOST", "lab-reading-study.hf.space")
    monkeypatch.setenv(space.DATABASE, "postgresql://secret")
    ran = []
    monkeypatch.setattr(space, "run_study", lambda *words, **more: ran.append((words, more)))
    space.run_space(folder)
    ((studied,), _) = ran[0]
    assert studied.collector.origins == ("https://lab-reading-study.hf.space",)
    assert (studied.collector.database, studied.collector.retention_days) == ("postgresql://secret", 90)
    assert (studied.models, studied.topics, studied.title) == (("hub:owner/a", "hub:owner/b"), ("Bees", "Tides"), title)
    (folder / "study.json").write_text('{"contact": "Ada", "color": "red"}')
    with pytest.raises(IfllmError, match="color"):
        space.space_settings(folder)


def test_a_study_that_is_published_says_so_to_its_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collecting = Settings(tmp_path, dataset_repo="lab/readings", publish_minutes=30, least_people=7)
    with pytest.raises(IfllmError, match=r"go to lab/readings.*shared with nobody"):
        StudySettings(collecting, ("echo",), contact="Ada")
    published = StudySettings(collecting, ("echo",), contact="Ada", shared_with="readers who ask for access on the Hub")
    assert "readers who ask for access on the Hub" in published.consent.html()
    space.write_space(published, tmp_path / "space")
    monkeypatch.setenv("SPACE_HOST", "lab-reading-study.hf.space")
    there = space.space_settings(tmp_path / "space")
    ran = there.collector
    assert (ran.dataset_repo, ran.publish_minutes, ran.least_people) == ("lab/readings", 30, 7)
    assert there.shared_with == published.shared_with


def test_a_local_model_needs_torch_there(tmp_path: Path) -> None:
    space.write_space(settings(tmp_path, models=("local:smollm2-135m",)), tmp_path / "space")
    assert "ifllm_hub[collect,train]==" in (tmp_path / "space" / "requirements.txt").read_text()
    with pytest.raises(IfllmError, match="not a model"):
        space.write_space(settings(tmp_path, models=("nonsense",)), tmp_path / "space")
    with pytest.raises(IfllmError, match="who is responsible"):
        settings(tmp_path, contact=" ")
    with pytest.raises(IfllmError, match="no such protocol"):
        settings(tmp_path, protocol="fast")


def test_a_space_is_pushed_in_one_commit(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "space"
    with pytest.raises(IfllmError, match="Write it first"):
        space.push_space(tmp_path, REPO)
    space.write_space(settings(tmp_path), folder)
    assert space.push_space(folder, REPO) == f"{hub.url}/spaces/{REPO}"
    repo = hub.repos["space", REPO]
    assert len(repo.history("main")) == 2
    assert repo.private
    assert set(repo.main.files) == {".gitattributes", "app.py", "requirements.txt", "README.md", "study.json"}
    assert RepoCard(repo.main.files["README.md"].content.decode()).data.sdk == "gradio"
    space.write_space(settings(tmp_path, title="Another"), folder)
    (folder / ".env").write_text("HF_TOKEN=secret")
    (folder / "collected.sqlite").write_text("secret")
    space.push_space(folder, REPO)
    assert set(repo.main.files) == {".gitattributes", "app.py", "requirements.txt", "README.md", "study.json"}
    assert b"Another" in repo.main.files["study.json"].content

    HfApi().create_repo("lab/other", repo_type="space", space_sdk="gradio")
    HfApi().upload_file(path_or_fileobj=b"1", path_in_repo="app.py", repo_id="lab/other", repo_type="space")
    with pytest.raises(IfllmError, match="not made by this command"):
        space.push_space(folder, "lab/other")
    HfApi().upload_file(path_or_fileobj=b"{}", path_in_repo="study.json", repo_id="lab/other", repo_type="space")
    with pytest.raises(IfllmError, match="not made by this command"):
        space.push_space(folder, "lab/other")
    assert hub.repos["space", "lab/other"].main.files["app.py"].content == b"1"
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    with pytest.raises(IfllmError, match=r"lab/third: .*may not write"):
        space.push_space(folder, "lab/third")
