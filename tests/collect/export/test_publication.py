"""Kept up to date on the Hub: published by itself, reached by withdrawals with nothing left behind, robust."""

import io
import logging
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from huggingface_hub import HfApi

from ifllm_hub import __version__
from ifllm_hub.collect.server.collector import Collector
from ifllm_hub.collect.settings import Settings
from ifllm_hub.errors import IfllmError
from tests.collect.conftest import Site
from tests.collect.export.test_export import collect
from tests.hub.client import run
from tests.hub.conftest import hub, no_waiting
from tests.hub.faults import What
from tests.hub.server import OTHER_TOKEN, Hub
from tests.waiting import until

__all__ = ["hub", "no_waiting"]

REPO = "lab/collected"
NOBODY = {"manifest.json": f'{{"collected": true, "ifllm_hub": "{__version__}", "tier": "full", "people": 0}}'.encode()}


def published(hub: Hub) -> dict[str, bytes]:
    return hub.files(REPO) if ("dataset", REPO) in hub.repos else {}


def workers_in(content: dict[str, bytes], site: Site, people: int) -> set[int]:
    """Whose pseudonyms are in the files, by number."""
    tables = [pl.read_parquet(io.BytesIO(file)).write_json() for path, file in content.items() if "parquet" in path]
    everything = "".join([*tables, *(file.decode() for path, file in content.items() if "parquet" not in path)])
    pseudonyms = {number: site.pseudonyms.worker(site.pseudonyms.person(f"p{number}")) for number in range(people)}
    return {number for number, worker in pseudonyms.items() if worker in everything}


def push(site: Site) -> None:
    """Now, instead of in an hour."""
    assert site.collector._publication is not None
    site.collector._publication.trigger().result()


@pytest.fixture
def publishing(hub: Hub, make_site: Callable[..., Site]) -> Site:
    return make_site(dataset_repo=REPO, least_people=2)


def test_what_is_collected_is_published_as_one_commit(hub: Hub, publishing: Site, tmp_path: Path) -> None:
    collect(publishing, people=3)
    push(publishing)
    repo = hub.dataset(REPO)
    assert (repo.private, repo.gated, repo.tags) == (True, "manual", {})
    assert workers_in(published(hub), publishing, 3) == {0, 1, 2}
    assert len(repo.history("main")) == 1
    head = repo.branches["main"]
    push(publishing)
    assert repo.branches["main"] == head  # nothing changed
    # In an interpreter that knows nothing of the collector.
    loaded = run(
        hub,
        tmp_path,
        f"from datasets import load_dataset\nprint(sum(load_dataset({REPO!r}, 'pairwise').num_rows.values()))",
    )
    assert loaded.stdout.strip() == "3", loaded.stderr


def test_a_withdrawal_reaches_the_hub_and_leaves_nothing_there(hub: Hub, publishing: Site) -> None:
    collect(publishing, people=3)
    push(publishing)
    before = hub.dataset(REPO).branches["main"]
    large = set(hub.dataset(REPO).large)
    assert large
    publishing.forget(publishing.register("p1", "q0")["person_token"])
    until(lambda: workers_in(published(hub), publishing, 3) == {0, 2} and len(hub.dataset(REPO).commits) == 1)
    push(publishing)  # the one that the withdrawal began is over
    repo = hub.dataset(REPO)
    assert before not in repo.commits
    stored = {file.sha256 for file in repo.main.files.values() if file.lfs}
    assert set(repo.large) == set(hub.lfs) == stored
    assert large - stored  # those with the one who withdrew


def test_with_too_few_people_nothing_stays_there(hub: Hub, publishing: Site) -> None:
    collect(publishing, people=1)
    push(publishing)
    assert published(hub) == NOBODY
    collect(publishing, people=2, first=1)
    push(publishing)
    assert workers_in(published(hub), publishing, 2) == {0, 1}
    publishing.forget(publishing.register("p1", "q0")["person_token"])
    until(lambda: published(hub) == NOBODY)
    push(publishing)
    assert (hub.dataset(REPO).large, hub.lfs, len(hub.dataset(REPO).commits)) == ({}, {}, 1)


SLOW_PATHS = [pytest.param(path, marks=pytest.mark.slow) for path in ("/super-squash/", "/lfs-files/batch")]


@pytest.mark.parametrize("path", ["/commit/", *SLOW_PATHS])
@pytest.mark.usefixtures("no_waiting")
def test_a_hub_that_fails_is_made_up_for(
    hub: Hub, publishing: Site, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    collect(publishing, people=2)
    push(publishing)
    collect(publishing, people=3, first=2)
    hub.faults.add(What.ERROR_BEFORE, lambda call: path in call.path)
    with caplog.at_level(logging.ERROR), pytest.raises(IfllmError, match=REPO):
        push(publishing)
    assert "Error while pushing to Hub" in caplog.text
    hub.faults.clear()
    push(publishing)
    assert workers_in(published(hub), publishing, 3) == {0, 1, 2}
    stored = {file.sha256 for file in hub.dataset(REPO).main.files.values() if file.lfs}
    assert (len(hub.dataset(REPO).commits), set(hub.lfs)) == (1, stored)


def test_the_end_publishes_what_is_left(hub: Hub, make_site: Callable[..., Site]) -> None:
    site = make_site(dataset_repo=REPO, least_people=1)
    push(site)
    collect(site, people=1)
    site.client.__exit__(None, None, None)
    assert workers_in(published(hub), site, 1) == {0}
    site.client.__enter__()


@pytest.mark.parametrize("contents", [{"table.csv": b"1"}, {"manifest.json": b"{}", "data/train.parquet": b"PAR1"}])
def test_a_repo_of_somebody_else_is_neither_emptied_nor_squashed(
    hub: Hub, tmp_path: Path, contents: dict[str, bytes]
) -> None:
    HfApi().create_repo(REPO, repo_type="dataset")
    for path, theirs in contents.items():
        HfApi().upload_file(path_or_fileobj=theirs, path_in_repo=path, repo_id=REPO, repo_type="dataset")
    commits = dict(hub.dataset(REPO).commits)
    with pytest.raises(IfllmError, match=f"{REPO}: exists on the Hub and was not made by this command"):
        Collector(Settings(tmp_path / "collected", dataset_repo=REPO))
    assert (published(hub), hub.dataset(REPO).commits) == (contents, commits)


def test_emptying_leaves_what_others_put_there_and_no_tag(hub: Hub, publishing: Site) -> None:
    collect(publishing, people=2)
    push(publishing)
    HfApi().create_tag(REPO, tag="pinned", repo_type="dataset")
    HfApi().upload_file(path_or_fileobj=b"1", path_in_repo="theirs.txt", repo_id=REPO, repo_type="dataset")
    publishing.forget(publishing.register("p1", "q0")["person_token"])
    until(lambda: published(hub) == {"theirs.txt": b"1", **NOBODY})
    push(publishing)  # the one that the withdrawal began is over
    repo = hub.dataset(REPO)
    assert (repo.tags, hub.lfs, len(repo.commits)) == ({}, {}, 1)
    collect(publishing, people=3, first=2)
    push(publishing)
    assert "theirs.txt" in published(hub)
    assert workers_in(published(hub), publishing, 3) == {0, 2}


def test_a_repo_that_may_not_be_written_is_said_at_the_start(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    with pytest.raises(IfllmError, match=REPO):
        Collector(Settings(tmp_path / "collected", dataset_repo=REPO))
    with pytest.raises(IfllmError, match="publish_minutes"):
        Settings(tmp_path / "collected", dataset_repo=REPO, publish_minutes=0)
