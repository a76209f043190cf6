"""The loopback Hub, as the unmodified `huggingface_hub`, `datasets` and `hf` see it."""

import os
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, HfFileSystem, hf_hub_download
from huggingface_hub.errors import (
    BadRequestError,
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from tests.hub import client
from tests.hub.faults import What
from tests.hub.server import NO_ROLE_TOKEN, OTHER_TOKEN, READ_TOKEN, WRITE_TOKEN, Hub

LARGE = os.urandom(100_000)
HF = str(Path(sys.executable).with_name("hf"))


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """A client, and the dataset repo `lab/d` with `README.md`, `a/large.parquet` (LFS) and `a/b/small.txt`."""
    api = HfApi()
    api.create_repo("lab/d", repo_type="dataset")
    commit(api, {"README.md": b"---\nlicense: mit\n---\n", "a/large.parquet": LARGE, "a/b/small.txt": b"one"})
    hub.faults.clear()
    return api


def commit(api: HfApi, files: dict[str, bytes], deleted: tuple[str, ...] = (), **more: object):
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    operations += [CommitOperationDelete(path) for path in deleted]
    return api.create_commit("lab/d", operations, commit_message="m", repo_type="dataset", **more)


def status_of(call) -> int:
    with pytest.raises(HfHubHTTPError) as error:
        call()
    return error.value.response.status_code


def test_tokens_and_who_they_are(hub) -> None:
    assert HfApi().whoami()["name"] == "ada"
    assert HfApi(token=READ_TOKEN).whoami()["auth"]["accessToken"]["role"] == "read"
    assert status_of(HfApi(token="hf_wrong").whoami) == 401


@pytest.mark.parametrize(
    ("token", "status"), [(READ_TOKEN, 403), (OTHER_TOKEN, 403), (NO_ROLE_TOKEN, 403), ("hf_wrong", 401), (False, 401)]
)
def test_who_may_write(token, status, hub, api) -> None:
    stranger = HfApi(token=token)
    for write in (
        lambda: stranger.create_repo("lab/new", repo_type="dataset"),
        lambda: stranger.create_tag("lab/d", tag="t", repo_type="dataset"),
        lambda: stranger.create_branch("lab/d", branch="b", repo_type="dataset"),
        lambda: commit(stranger, {"x.txt": b"x"}),
        lambda: commit(stranger, {"x.parquet": LARGE}),
        lambda: stranger.update_repo_settings("lab/d", repo_type="dataset", private=True),
        lambda: stranger.delete_repo("lab/d", repo_type="dataset"),
    ):
        assert status_of(write) == status
    assert [c.title for c in api.list_repo_commits("lab/d", repo_type="dataset")] == ["m", "initial commit"]
    assert set(hub.repos) == {("dataset", "lab/d")}


def test_repos_are_created_once_and_types_do_not_mix(hub, api) -> None:
    assert status_of(lambda: api.create_repo("lab/d", repo_type="dataset")) == 409
    assert api.create_repo("lab/d", repo_type="dataset", exist_ok=True).repo_id == "lab/d"
    assert not api.repo_exists("lab/d")
    api.create_repo("lab/d")
    assert [info.id for info in api.list_models(author="lab")] == ["lab/d"]
    api.delete_repo("lab/d")
    assert api.repo_exists("lab/d", repo_type="dataset")
    with pytest.raises(RepositoryNotFoundError):
        api.delete_repo("lab/d")


def test_a_private_repo_is_not_there_for_others(hub, api) -> None:
    api.update_repo_settings("lab/d", repo_type="dataset", private=True)
    assert api.dataset_info("lab/d").private
    assert HfApi(token=READ_TOKEN).repo_exists("lab/d", repo_type="dataset")
    for token in (OTHER_TOKEN, NO_ROLE_TOKEN, False):
        stranger = HfApi(token=token)
        with pytest.raises(RepositoryNotFoundError):
            stranger.dataset_info("lab/d")
        assert list(stranger.list_datasets(author="lab")) == []
        assert not stranger.file_exists("lab/d", "README.md", repo_type="dataset")


def test_a_gated_repo_shows_its_names_and_keeps_its_files(hub, api) -> None:
    api.update_repo_settings("lab/d", repo_type="dataset", gated="manual")
    stranger = HfApi(token=OTHER_TOKEN)
    assert stranger.dataset_info("lab/d").gated == "manual"
    assert "a/large.parquet" in stranger.list_repo_files("lab/d", repo_type="dataset")
    with pytest.raises(GatedRepoError):
        hf_hub_download("lab/d", "README.md", repo_type="dataset", token=OTHER_TOKEN)
    assert hf_hub_download("lab/d", "README.md", repo_type="dataset")


def test_a_commit_is_all_or_nothing_and_has_its_parent(hub, api) -> None:
    old = hub.files("lab/d")
    with pytest.raises(RemoteEntryNotFoundError, match="doesn't exist"):
        commit(api, {"new.txt": b"n"}, deleted=("no-such-file",))
    assert hub.files("lab/d") == old
    made = commit(api, {"a/b/small.txt": b"two"}, deleted=("a/large.parquet",))
    assert hub.files("lab/d") == {"README.md": old["README.md"], "a/b/small.txt": b"two"}
    assert hub.files("lab/d", made.oid) == hub.files("lab/d")
    assert hub.dataset("lab/d").main.parents == (api.list_repo_commits("lab/d", repo_type="dataset")[1].commit_id,)
    commit(api, {}, deleted=("a/",))
    assert set(hub.files("lab/d")) == {"README.md"}
    commits = len(hub.dataset("lab/d").commits)
    commit(api, {"README.md": old["README.md"]})  # the client itself sees that nothing changed
    assert len(hub.dataset("lab/d").commits) == commits


def test_a_stale_parent_is_412(hub, api) -> None:
    head = api.dataset_info("lab/d").sha
    commit(api, {"x.txt": b"1"}, parent_commit=head)
    assert status_of(lambda: commit(api, {"x.txt": b"2"}, parent_commit=head)) == 412
    assert hub.files("lab/d")["x.txt"] == b"1"


def test_bad_front_matter_is_refused_before_anything_is_uploaded(hub, api) -> None:
    for bad in (b"---\nlicense: [mit\n---\n", b"---\n- a list\n---\n"):
        with pytest.raises(ValueError, match="Invalid metadata"):
            commit(api, {"README.md": bad})
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        commit(api, {"README.md": b"no front matter"})


def test_large_files_are_stored_by_sha256_once(hub, api) -> None:
    info = {file.path: file for file in api.list_repo_tree("lab/d", repo_type="dataset", recursive=True)}
    assert info["a/large.parquet"].lfs.size == info["a/large.parquet"].size == len(LARGE)
    assert info["a/b/small.txt"].lfs is None
    assert info["a/b/small.txt"].blob_id == "43dd47ea691c90a5fa7827892c70241913351963"  # git hash-object of "one"
    commit(api, {"again.parquet": LARGE})
    assert [call.method for call in hub.faults.calls if "storage" in call.path] == []
    sha256 = info["a/large.parquet"].lfs.sha256
    storage = f"{hub.url.replace('127.0.0.1', 'localhost')}/storage"
    assert httpx.put(f"{storage}/{'0' * 64}", content=b"other content").status_code == 400
    assert httpx.get(f"{storage}/{sha256}", headers={"Authorization": f"Bearer {WRITE_TOKEN}"}).status_code == 400
    body = b'{"key":"header","value":{"summary":"m"}}\n{"key":"lfsFile","value":{"path":"x","oid":"%s"}}' % (b"0" * 64)
    headers = {"Authorization": f"Bearer {WRITE_TOKEN}"}
    refused = httpx.post(f"{hub.url}/api/datasets/lab/d/commit/main", content=body, headers=headers)
    assert (refused.status_code, "not uploaded" in refused.text) == (400, True)


def test_reading_by_head_and_by_range(hub, api) -> None:
    url = f"{hub.url}/datasets/lab/d/resolve/main"
    head = httpx.head(f"{url}/a/b/small.txt")
    assert head.headers["X-Repo-Commit"] == api.dataset_info("lab/d").sha
    assert (head.headers["ETag"], head.content) == ('"43dd47ea691c90a5fa7827892c70241913351963"', b"")
    head = httpx.head(f"{url}/a/large.parquet")
    assert (head.status_code, head.headers["X-Linked-Size"]) == (302, "100000")
    for spec, expected in (("0-9", LARGE[:10]), ("99990-", LARGE[-10:]), ("-10", LARGE[-10:]), ("5-5", LARGE[5:6])):
        part = httpx.get(f"{url}/a/large.parquet", headers={"Range": f"bytes={spec}"}, follow_redirects=True)
        assert (part.status_code, part.content) == (206, expected)
    beyond = httpx.get(f"{url}/a/b/small.txt", headers={"Range": "bytes=100-"})
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */3")
    with HfFileSystem(endpoint=hub.url, skip_instance_cache=True).open("datasets/lab/d/a/large.parquet") as file:
        file.seek(50_000)
        assert file.read(100) == LARGE[50_000:50_100]
    assert httpx.get(f"{hub.url}/datasets/lab/d/raw/main/a/large.parquet").text.startswith("version https://git-lfs")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("lab/d", "none.txt", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("lab/d", "README.md", repo_type="dataset", revision="none")


def test_listings_come_in_pages(hub, api) -> None:
    whole = list(api.list_repo_tree("lab/d", repo_type="dataset", recursive=True))
    commits = api.list_repo_commits("lab/d", repo_type="dataset")
    hub.page = 1
    hub.faults.clear()
    assert list(api.list_repo_tree("lab/d", repo_type="dataset", recursive=True)) == whole
    assert len(hub.faults.calls) == len(whole) == 6  # .gitattributes, README.md, a, a/b and two files
    assert api.list_repo_commits("lab/d", repo_type="dataset") == commits
    assert [entry.path for entry in api.list_repo_tree("lab/d", "a", repo_type="dataset")] == ["a/b", "a/large.parquet"]
    found = api.get_paths_info("lab/d", ["a", "README.md", "none"], repo_type="dataset")
    assert [entry.path for entry in found] == ["a", "README.md"]
    info = api.dataset_info("lab/d", files_metadata=True)
    assert {file.rfilename: bool(file.lfs) for file in info.siblings}["a/large.parquet"]


def test_branches_and_tags(hub, api) -> None:
    first = api.dataset_info("lab/d").sha
    api.create_tag("lab/d", tag="v1", repo_type="dataset")
    api.create_branch("lab/d", branch="dev", repo_type="dataset")
    commit(api, {"x.txt": b"x"}, revision="dev")
    assert "x.txt" not in hub.files("lab/d")
    assert "x.txt" in hub.files("lab/d", "dev")
    assert api.dataset_info("lab/d", revision="v1").sha == first
    refs = api.list_repo_refs("lab/d", repo_type="dataset")
    assert {ref.name for ref in refs.branches} == {"main", "dev"}
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", first)]
    assert status_of(lambda: api.create_tag("lab/d", tag="v1", revision="dev", repo_type="dataset")) == 409
    assert status_of(lambda: api.create_branch("lab/d", branch="dev", repo_type="dataset")) == 409
    with pytest.raises(BadRequestError):
        api.create_branch("lab/d", branch="refs/pr/9", repo_type="dataset")
    api.delete_tag("lab/d", tag="v1", repo_type="dataset")
    with pytest.raises(RevisionNotFoundError):
        api.dataset_info("lab/d", revision="v1")


def test_pull_requests_merge_unless_they_conflict(hub, api) -> None:
    good = commit(api, {"pr.txt": b"pr"}, deleted=("a/large.parquet",), create_pr=True)
    bad = commit(api, {"a/b/small.txt": b"theirs"}, create_pr=True)
    assert good.pr_revision == "refs/pr/1"
    assert hub.files("lab/d", "refs/pr/1")["pr.txt"] == b"pr"
    commit(api, {"a/b/small.txt": b"ours"})
    api.merge_pull_request("lab/d", good.pr_num, repo_type="dataset")
    assert set(hub.files("lab/d")) == {"README.md", "a/b/small.txt", "pr.txt"}
    assert len(hub.dataset("lab/d").main.parents) == 2
    details = api.get_discussion_details("lab/d", bad.pr_num, repo_type="dataset")
    assert details.conflicting_files == ["a/b/small.txt"]
    assert status_of(lambda: api.merge_pull_request("lab/d", bad.pr_num, repo_type="dataset")) == 409
    api.comment_discussion("lab/d", bad.pr_num, "no", repo_type="dataset")
    api.change_discussion_status("lab/d", bad.pr_num, "closed", repo_type="dataset")
    statuses = {talk.num: talk.status for talk in api.get_repo_discussions("lab/d", repo_type="dataset")}
    assert statuses == {1: "merged", 2: "closed"}


@pytest.mark.parametrize("what", [What.DROP_BEFORE, What.DROP_AFTER, What.ERROR_BEFORE, What.ERROR_AFTER])
def test_a_fault_hits_the_request_it_names_before_or_after_it_took_effect(what, hub, api) -> None:
    hub.faults.add(what, lambda call: "/commit/" in call.path)
    with pytest.raises((HfHubHTTPError, httpx.TransportError)):
        commit(api, {"x.txt": b"x"})
    assert ("x.txt" in hub.files("lab/d")) == (what in (What.DROP_AFTER, What.ERROR_AFTER))
    hub.faults.clear()
    commit(api, {"y.txt": b"y"})
    assert "y.txt" in hub.files("lab/d")


def test_the_client_repeats_what_it_may_repeat(hub, api, no_waiting) -> None:
    hub.faults.add(What.ERROR_BEFORE, lambda call: "/preupload/" in call.path and call.number < 3)
    commit(api, {"x.txt": b"x"})
    assert [call.path.split("/")[-2] for call in hub.faults.calls] == ["preupload"] * 4 + ["commit"]


def test_a_download_that_is_cut_off_is_finished(hub, api, no_waiting) -> None:
    hub.faults.add(What.CUT, lambda call: call.method == "GET" and "/storage/" in call.path and call.number < 3)
    assert Path(hf_hub_download("lab/d", "a/large.parquet", repo_type="dataset")).read_bytes() == LARGE
    assert sum("/storage/" in call.path for call in hub.faults.calls) >= 2


def test_a_slow_answer_and_a_refusal(hub, api) -> None:
    hub.faults.at(0, What.SLOW, seconds=0.3)
    started = time.perf_counter()
    assert api.dataset_info("lab/d").id == "lab/d"
    assert time.perf_counter() - started >= 0.3
    hub.faults.clear()
    hub.faults.at(0, What.SLOW, seconds=0.3)
    with pytest.raises(httpx.TimeoutException):
        api.dataset_info("lab/d", timeout=0.1)
    hub.faults.clear()
    hub.faults.add(What.REFUSE, lambda call: True, status=429)
    assert status_of(lambda: api.dataset_info("lab/d")) == 429


@pytest.mark.parametrize("xet", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_datasets_pushes_and_loads_several_configs(xet, hub, tmp_path) -> None:
    done = client.run(hub, tmp_path / "home", DATASETS, xet=xet)
    assert done.returncode == 0, done.stderr
    paths = {call.path.split("?")[0].rpartition("/")[0].rpartition("/")[2] for call in hub.faults.calls}
    assert ("xet-write-token" in paths, "xet-read-token" in paths) == (xet, xet)
    assert ("objects" in paths) == (not xet)  # LFS


DATASETS = """
from datasets import Dataset, get_dataset_config_names, load_dataset
one, two = Dataset.from_dict({"x": list(range(100))}), Dataset.from_dict({"text": ["a", "b"] * 9_000})
one.push_to_hub("lab/p", "one", private=True)
two.push_to_hub("lab/p", "two", num_shards=2)
assert get_dataset_config_names("lab/p") == ["one", "two"]
for config, rows in (("one", one), ("two", two)):
    assert load_dataset("lab/p", config)["train"].to_dict() == rows.to_dict()
    assert list(load_dataset("lab/p", config, streaming=True)["train"]) == list(rows)
# A thread of a stream may outlive it and abort the interpreter at its end: huggingface/datasets#7566.
import os
os._exit(0)
"""


@pytest.mark.slow
def test_the_hf_command(hub, tmp_path) -> None:
    (tmp_path / "large.parquet").write_bytes(LARGE)
    home = tmp_path / "home"
    for words in (
        ("auth", "whoami"),
        ("repos", "create", "lab/c", "--repo-type", "dataset"),
        ("upload", "lab/c", tmp_path / "large.parquet", "data/large.parquet", "--repo-type", "dataset"),
        ("repos", "tag", "create", "lab/c", "v1", "--repo-type", "dataset"),
        ("download", "lab/c", "--repo-type", "dataset", "--revision", "v1", "--local-dir", tmp_path / "out"),
    ):
        done = client.run(hub, home, HF, *words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
    assert (tmp_path / "out" / "data" / "large.parquet").read_bytes() == LARGE
    refused = client.run(hub, home, HF, "repos", "create", "lab/x", token=READ_TOKEN)
    assert (refused.returncode, "403" in refused.stderr + refused.stdout) == (1, True)
