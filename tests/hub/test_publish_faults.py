"""`ifllm publish` when anything on the way fails: the Hub has a whole version, and a second run finishes."""

import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from huggingface_hub import constants

from ifllm_hub.errors import IfllmError
from tests.hub import client
from tests.hub.faults import What
from tests.hub.publishing import IFLLM, REPO, content, loads_as, send, titles
from tests.hub.server import Hub

FAULTS = [What.DROP_BEFORE, What.DROP_AFTER, What.ERROR_BEFORE, What.ERROR_AFTER]


class Stage:
    """The Hub before a publication, again and again: with the old version, or without the repo."""

    def __init__(self, hub: Hub, old: Path | None, new: Path):
        self.hub, self.new = hub, new
        if old:
            send(old)
        self.before = hub.files(REPO) if old else {}
        self.after = content(new)
        self._repos = {key: repo.copy() for key, repo in hub.repos.items()}
        self._lfs = dict(hub.lfs)
        self.reset()
        send(new)
        self.requests = len(hub.faults.calls)

    def reset(self) -> None:
        self.hub.repos = {key: repo.copy() for key, repo in self._repos.items()}
        self.hub.lfs = dict(self._lfs)
        self.hub.faults.clear()
        shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)  # so that the old card is asked for anew

    def check(self) -> None:
        """`main` is the old or the new version; a second run ends with the new one, in one commit with one tag."""
        if ("dataset", REPO) in self.hub.repos:
            assert self.hub.files(REPO) in (self.before, self.after)
        self.hub.faults.clear()
        send(self.new)
        repo = self.hub.dataset(REPO)
        assert self.hub.files(REPO) == self.after
        assert titles(self.hub)[0] == "Publish"
        assert len(titles(self.hub)) == (3 if self.before else 2)
        assert repo.tags[f"v{len(repo.tags)}"] == repo.main.oid
        assert len(repo.tags) == (2 if self.before else 1)


def sweep(stage: Stage, what: What, last: bool, every: int = 1) -> int:
    """Run into the fault at each request in turn, or at each nth; how many publications failed."""
    failed = 0
    for number in range(0, stage.requests, every):
        stage.reset()
        (stage.hub.faults.since if last else stage.hub.faults.at)(number, what)
        try:
            send(stage.new)
        except IfllmError:
            failed += 1
        stage.check()
    return failed


def test_an_update_that_dies_at_every_third_request_leaves_a_whole_version(old, new, hub, no_waiting) -> None:
    """By the fault that is the hardest to tell; the others and the other requests are below."""
    stage = Stage(hub, old, new)
    assert stage.requests >= 15
    assert sweep(stage, What.ERROR_AFTER, last=True, every=3) == len(range(0, stage.requests, 3))


@pytest.mark.slow
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("first", [True, False])
def test_every_fault_at_every_request(what, last, first, old, new, hub, no_waiting) -> None:
    """First publications and updates; faults that last, and those that a second try of the client may get past."""
    stage = Stage(hub, None if first else old, new)
    failed = sweep(stage, what, last)
    assert failed == stage.requests if last else 0 < failed < stage.requests


def test_a_first_publication_that_dies_at_the_requests_that_write(new, hub, no_waiting) -> None:
    stage = Stage(hub, None, new)
    writes = [call.number for call in hub.faults.calls if call.method == "POST" and "/info/lfs/" not in call.path]
    assert len(writes) == 5  # create, validate-yaml, preupload, commit, tag
    for number in writes:
        for what in (What.DROP_AFTER, What.ERROR_BEFORE):
            stage.reset()
            hub.faults.since(number, what)
            with pytest.raises(IfllmError, match="failed or cannot be reached"):
                send(new)
            stage.check()


@pytest.mark.slow
@pytest.mark.parametrize("route", ["/xet-write-token/", "/commit/"])
def test_xet_that_fails_leaves_a_whole_version(route, old, new, hub, tmp_path) -> None:
    send(old)
    hub.faults.add(What.ERROR_BEFORE, lambda call: route in call.path)
    done = client.run(hub, tmp_path / "home", IFLLM, "publish", new, REPO, xet=True)
    assert (done.returncode, hub.files(REPO)) == (2, content(old))
    assert "failed or cannot be reached" in done.stderr.splitlines()[-1]
    hub.faults.clear()
    assert client.run(hub, tmp_path / "home", IFLLM, "publish", new, REPO, xet=True).returncode == 0
    assert hub.files(REPO) == content(new)


@pytest.mark.parametrize("what", [What.DROP_BEFORE, pytest.param(What.ERROR_AFTER, marks=pytest.mark.slow)])
def test_after_a_failed_commit_datasets_loads_what_is_there(what, old, new, hub, tmp_path) -> None:
    """The 500 after the commit leaves the new version, without its tag; the lost request leaves the old one."""
    send(old)
    hub.faults.add(what, lambda call: "/commit/" in call.path)
    with pytest.raises(IfllmError, match="Run it again"):
        send(new)
    hub.faults.clear()
    loads_as(hub, new if what is What.ERROR_AFTER else old, tmp_path / "home")
    assert list(hub.dataset(REPO).tags) == ["v1"]
    send(new)
    assert titles(hub) == ["Publish", "Publish", "initial commit"]
    assert list(hub.dataset(REPO).tags) == ["v1", "v2"]


@pytest.mark.slow
@pytest.mark.parametrize("xet", [False, True])
def test_a_killed_process_leaves_a_whole_version(xet, old, new, hub, tmp_path) -> None:
    """SIGKILL as the request comes in, before the Hub has acted on it and after."""
    environment = client.environment(hub, tmp_path / "home", xet=xet)
    number = 0
    while True:
        for what in (What.DROP_BEFORE, What.DROP_AFTER):
            hub.repos, hub.lfs = {}, {}
            send(old)
            hub.faults.clear()
            process: list[subprocess.Popen] = []
            hub.faults.at(number, what, on_hit=lambda process=process: process[0].kill())
            process.append(subprocess.Popen([IFLLM, "publish", new, REPO], env=environment, stdout=subprocess.DEVNULL))
            code = process[0].wait()
            assert hub.files(REPO) in (content(old), content(new))
            if code == 0:
                assert number >= 8
                return
            assert code == -signal.SIGKILL
            hub.faults.clear()
            send(new)
            assert hub.files(REPO) == content(new)
            assert titles(hub) == ["Publish", "Publish", "initial commit"]
            assert list(hub.dataset(REPO).tags) == ["v1", "v2"]
        number += 1
