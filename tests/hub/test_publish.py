"""`ifllm publish`: what arrives on the Hub, and what is told before."""

import shutil

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import GatedRepoError

from ifllm_hub.dataset.card.pages import write_card
from ifllm_hub.dataset.publishing.publish import plan_publication, publish
from ifllm_hub.errors import IfllmError
from ifllm_hub.preferences.labels import SOURCES
from tests.hub import client
from tests.hub.publishing import IFLLM, REPO, command, content, edit_manifest, loads_as, rows, send, titles
from tests.hub.server import OTHER_TOKEN


@pytest.mark.slow
@pytest.mark.parametrize("xet", [False, True])
def test_what_was_published_loads_as_the_folder(xet, old, new, hub, tmp_path) -> None:
    """By name and by tag; with Xet, contents go through the CAS of `hf_xet`, up and down."""
    for folder in (old, new):
        done = client.run(hub, tmp_path / "home", IFLLM, "publish", folder, REPO, xet=xet)
        assert (done.returncode, done.stderr) == (0, "")
        assert hub.files(REPO) == content(folder)
    asked = [call.path for call in hub.faults.calls]
    assert any("xet-write-token" in path for path in asked) == xet
    assert any("/storage/" in path for path in asked) == (not xet)
    loads_as(hub, new, tmp_path / "home", xet=xet)
    loads_as(hub, old, tmp_path / "home", "v1", xet=xet)
    assert titles(hub) == ["Publish", "Publish", "initial commit"]


def test_the_published_card_names_the_repo(dataset, hub, capsys, monkeypatch) -> None:
    before = content(dataset)
    assert command(capsys, monkeypatch, dataset, REPO)[0] == 0
    assert content(dataset) == before
    card = hub.files(REPO)["README.md"].decode()
    assert f'load_dataset("{REPO}", "pairwise"' in card
    assert "ORG/ifllm" not in card
    assert command(capsys, monkeypatch, dataset, REPO)[1].splitlines()[0].endswith(": nothing changed")


def test_unchanged_content_makes_no_commit_and_changed_content_one(old, new, hub) -> None:
    first, tag = send(old)
    assert (tag, hub.files(REPO)) == ("v1", content(old))
    assert send(old) == (first, None)
    assert titles(hub) == ["Publish", "initial commit"]
    second, tag = send(new)
    assert (tag, hub.files(REPO)) == ("v2", content(new))
    assert titles(hub) == ["Publish", "Publish", "initial commit"]
    assert hub.files(REPO, "v1") == content(old)
    assert hub.dataset(REPO).tags == {"v1": first, "v2": second}
    assert ".gitattributes" in hub.dataset(REPO).main.files


def test_the_diff_is_told_first_and_kept_with_the_commit(old, new, hub) -> None:
    send(old)
    told = str(plan_publication(new, REPO))
    was, now = content(old), content(new)
    changed = sorted(path for path in was.keys() & now.keys() if was[path] != now[path])
    assert {"README.md", "data/pairwise/train-00000-of-00001.parquet"} <= set(changed)
    head, *lines = told.splitlines()
    assert head == f"lab/ifllm, main, access on request: {2 * len(SOURCES)} added, {len(changed)} changed, 1 deleted"
    assert [line for line in lines if line.startswith("  ~")] == [f"  ~ {path}" for path in changed]
    assert [line for line in lines if line[2] not in "+~-"] == [
        f"  pairwise train: {rows(old, 'pairwise')} rows -> {rows(new, 'pairwise')} rows",
        *(
            f"  preferences_{source} {split}: none -> {rows(new, f'preferences_{source}', split)} rows"
            for source in SOURCES
            for split in ("train", "test")
        ),
    ]
    assert {"  + data/preferences_forest/train-00000-of-00001.parquet", "  - figures/old.png"} <= set(lines)
    send(new)
    assert hub.dataset(REPO).main.message == told


def test_files_that_are_none_of_a_dataset_stay_at_home(old, hub, tmp_path, capsys, monkeypatch) -> None:
    """They are named in the plan; a link stays at home whatever its name."""
    folder = shutil.copytree(old, tmp_path / "d")
    for name in (".cache/x", ".env", "notes.txt", "notes.json", "data/notes.md", "data/pairwise/key", "old/README.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    (folder / "data" / "mine").mkdir()
    shutil.copy(folder / "data" / "pairwise" / "test-00000-of-00001.parquet", folder / "data" / "mine")
    (tmp_path / "secrets.json").write_text("secret")
    (folder / "figures" / "key.png").symlink_to(tmp_path / "secrets.json")
    (folder / "trl").symlink_to(tmp_path)
    code, out, _ = command(capsys, monkeypatch, folder, REPO)
    assert code == 0
    (told,) = [line for line in out.splitlines() if "left out" in line]
    named = ".cache/, .env, data/mine/test-00000-of-00001.parquet, data/notes.md, data/pairwise/key"
    also = "figures/key.png (a link), notes.json, notes.txt, old/, trl (a link)"
    assert told == f"warning: left out, not part of a dataset: {named}, {also}"
    assert hub.files(REPO) == content(old)
    assert plan_publication(folder, REPO).operations == {}


def test_a_file_that_the_dataset_needs_is_no_link(old, hub, tmp_path) -> None:
    folder = shutil.copytree(old, tmp_path / "d")
    (folder / "data").rename(tmp_path / "elsewhere")
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IfllmError, match=r"data/features/.*parquet: is a link, or lies in a folder that is one"):
        send(folder)
    assert hub.faults.calls == []


def test_what_others_put_beside_it_stays(old, new, hub) -> None:
    send(old)
    HfApi().upload_file(path_or_fileobj=b"1", path_in_repo="theirs.txt", repo_id=REPO, repo_type="dataset")
    send(new)
    assert hub.files(REPO) == content(new) | {"theirs.txt": b"1"}
    publish(plan_publication(new, REPO, force=True))
    assert hub.files(REPO) == content(new)


def test_a_dry_run_shows_the_diff_and_writes_nothing(old, new, hub, capsys, monkeypatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert (
        f"lab/ifllm, new repo, access on request: {len(content(old))} added"
        in command(capsys, monkeypatch, old, REPO, "--dry-run")[1]
    )
    assert hub.repos == {}
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    send(old)
    hub.faults.clear()
    before = vars(hub.dataset(REPO).copy())
    code, out, _ = command(capsys, monkeypatch, new, REPO, "--dry-run", "--tag", "v9", "--revision", "dev")
    assert (code, "  ~ README.md" in out) == (0, True)
    assert vars(hub.dataset(REPO)) == before
    assert {call.method for call in hub.faults.calls} <= {"GET", "HEAD"}


def test_a_branch_of_its_own_leaves_main_alone(old, new, hub) -> None:
    send(old)
    commit, tag = publish(plan_publication(new, REPO, "dev"))
    assert (hub.files(REPO), hub.files(REPO, "dev"), tag) == (content(old), content(new), None)
    assert publish(plan_publication(new, REPO, "dev")) == (commit, None)
    assert publish(plan_publication(new, REPO, "dev"), tag="trial") == (commit, "trial")
    assert hub.dataset(REPO).tags["trial"] == commit


def test_tags_name_one_version_for_ever(old, new, hub) -> None:
    assert send(old, tag="paper")[1] == "paper"
    assert send(old, tag="paper")[1] is None
    with pytest.raises(IfllmError, match="tag 'paper' already points to another version"):
        send(new, tag="paper")
    assert hub.files(REPO) == content(old)
    assert send(old, tag="v7")[1] == "v7"
    assert send(new)[1] == "v8"


def test_private_is_private_from_the_first_request(old, new, hub) -> None:
    send(old, private=True)
    assert hub.dataset(REPO).private
    send(new, private=True)
    HfApi().update_repo_settings(REPO, repo_type="dataset", private=False)
    with pytest.raises(IfllmError, match="is public"):
        send(old, private=True, allow_breaking=True)
    assert hub.files(REPO) == content(new)


def test_the_full_tier_is_gated_before_its_data_arrives(old, new, hub, tmp_path) -> None:
    public = shutil.copytree(old, tmp_path / "public")
    edit_manifest(public, tier="public")
    with pytest.raises(IfllmError, match="the tier 'public', which has no trajectories, but data/trajectories"):
        send(public)
    assert hub.repos == {}
    shutil.rmtree(public / "data" / "trajectories")
    write_card(public, REPO)
    send(public)
    assert not hub.dataset(REPO).gated
    hub.faults.clear()
    send(old)
    assert hub.dataset(REPO).gated == "manual"
    writes = [call.path.split("/")[-1] for call in hub.faults.calls if call.method in ("PUT", "POST")]
    assert writes.index("settings") < writes.index("main")  # preupload/main is the first that carries content
    with pytest.raises(GatedRepoError):
        hf_hub_download(REPO, "manifest.json", repo_type="dataset", token=OTHER_TOKEN)
