"""Who has withdrawn is in no version on the Hub that can be downloaded, once older ones are squashed."""

import io
import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from huggingface_hub import HfApi

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.load import load_config
from ifllm_hub.dataset.publishing.publish import plan_publication, publish
from ifllm_hub.dataset.publishing.versions import older_versions
from ifllm_hub.dataset.withdrawal import drop_people
from ifllm_hub.errors import IfllmError
from tests.hub import client
from tests.hub.faults import What
from tests.hub.publishing import REPO, command, content, edit_manifest, send
from tests.hub.server import Hub

LOAD = """
import sys
from datasets import load_dataset
rows = load_dataset("lab/ifllm", "pairwise", revision=sys.argv[1])
print(sorted({row["worker_id"] for split in rows.values() for row in split}))
"""


@pytest.fixture(scope="session")
def worker(old: Path) -> str:
    """Who withdraws."""
    return str(load_config(old, "pairwise")["worker_id"].value_counts(sort=True)["worker_id"][0])


@pytest.fixture(scope="session")
def without(old: Path, worker: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`old` without the worker. Read only."""
    folder = tmp_path_factory.mktemp("without") / "ifllm"
    shutil.copytree(old, folder)
    drop_people(folder, [worker])
    edit_manifest(folder, withdrawn={"listed": 1, "workers": 1, "questions": 1})
    write_card(folder, REPO)
    return folder


def stored_with(hub: Hub, worker: str) -> list[str]:
    """Parquet files that the Hub stores, of whatever version, in which the worker is."""
    tables = {sha: pl.read_parquet(io.BytesIO(data)) for sha, data in hub.lfs.items() if data[:4] == b"PAR1"}
    return [sha for sha, rows in tables.items() if "worker_id" in rows.columns and worker in rows["worker_id"]]


def test_publish_says_which_versions_still_hold_them(old, new, without, hub, capsys, monkeypatch) -> None:
    send(old)
    commit = send(new, versioned=False)[0]
    HfApi().create_branch(REPO, repo_type="dataset", branch="dev")
    send(old, allow_breaking=True, tag="paper")
    assert plan_publication(old, REPO).warnings(squash=False) == []
    code, out, _ = command(capsys, monkeypatch, without, REPO, "--dry-run")
    warnings = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert code == 0
    assert warnings[0].startswith(f"warning: {REPO}: older versions (v1, paper, {commit[:8]}) still contain people")
    assert "--squash" in warnings[0]
    assert warnings[1].startswith(f"warning: {REPO}: other branches (dev) still contain people")
    assert command(capsys, monkeypatch, without, REPO)[0] == 0
    assert "older versions (v1, paper," in command(capsys, monkeypatch, without, REPO)[1], "until they are squashed"


@pytest.mark.parametrize(
    "manifest", [{"collected": True, "people": 3}, {"release_sha256": "", "withdrawn": {"workers": 1}}]
)
def test_it_is_told_by_who_is_there_and_not_by_how_many(hub, tmp_path: Path, manifest: dict) -> None:
    api = HfApi()
    api.create_repo(REPO, repo_type="dataset")
    name = "data/pairwise/train-00000-of-00001.parquet"
    for people in ("abc", "bcd", "cd"):
        rows = io.BytesIO()
        pl.DataFrame({"worker_id": list(people)}).write_parquet(rows)
        api.upload_file(path_or_fileobj=rows.getvalue(), path_in_repo=name, repo_id=REPO, repo_type="dataset")
        api.create_tag(REPO, tag=people, repo_type="dataset")
    for people, older in (("bcd", ("abc",)), ("acd", ("abc", "bcd")), ("abcd", ())):
        file = tmp_path / people / name
        file.parent.mkdir(parents=True)
        pl.DataFrame({"worker_id": list(people)}).write_parquet(file)
        assert older_versions(api, REPO, "main", tmp_path / people, manifest) == (older, ())
    nobody = {"release_sha256": "", "withdrawn": {"workers": 0}}
    assert older_versions(api, REPO, "main", tmp_path / "bcd", nobody) == ((), ())


@pytest.mark.slow
def test_after_squashing_no_version_gives_the_worker(old, without, worker, hub, tmp_path) -> None:
    commit, _ = send(old)
    before = client.run(hub, tmp_path / "home", sys.executable, "-c", LOAD, "v1")
    assert worker in before.stdout, before.stderr
    head, tag = send(without, squash=True)
    for revision in ("v1", commit):
        loaded = client.run(hub, tmp_path / revision, sys.executable, "-c", LOAD, revision)
        assert loaded.returncode, f"{revision} loads"
        assert worker not in loaded.stdout
    for revision in ("main", "v2", head):
        loaded = client.run(hub, tmp_path / revision, sys.executable, "-c", LOAD, revision)
        assert loaded.returncode == 0, loaded.stderr
        assert worker not in loaded.stdout
    assert tag == "v2"


def test_squashing_leaves_one_commit_with_the_next_tag(old, new, without, worker, hub) -> None:
    send(old)
    send(without)
    assert stored_with(hub, worker)
    head, tag = send(without, squash=True)  # of what is there already
    repo = hub.dataset(REPO)
    assert (hub.files(REPO), repo.tags, tag) == (content(without), {"v3": head}, "v3")
    assert list(repo.commits) == [head] == [repo.branches["main"]]
    assert stored_with(hub, worker) == []
    assert plan_publication(without, REPO).warnings(squash=False) == []
    assert send(without, squash=True) == (head, None), "there is nothing left to squash"


def test_what_another_branch_holds_stays_and_is_told(old, new, without, worker, hub) -> None:
    send(old)
    publish(plan_publication(new, REPO, "dev"))
    send(without, squash=True)
    assert hub.files(REPO, "dev") == content(new)
    (told,) = plan_publication(without, REPO).warnings(squash=True)
    assert "other branches (dev)" in told
    publish(plan_publication(without, REPO, "dev"), allow_breaking=True, squash=True)
    assert stored_with(hub, worker) == []


@pytest.mark.parametrize("path", ["/super-squash/", "/tag/", "/lfs-files/batch"])
def test_a_squash_that_was_cut_off_is_finished_by_the_next(path, old, without, worker, hub, no_waiting) -> None:
    send(old)
    hub.faults.add(What.ERROR_BEFORE, lambda call: path in call.path)
    with pytest.raises(IfllmError, match="Run it again"):
        send(without, squash=True)
    hub.faults.clear()
    send(without, squash=True)
    repo = hub.dataset(REPO)
    assert repo.tags == {"v2": repo.branches["main"]}
    assert len(repo.commits) == 1
    assert stored_with(hub, worker) == []
