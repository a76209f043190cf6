"""`ifllm publish`: what it refuses, in one line, before anything is changed."""

import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from huggingface_hub import HfApi

from ifllm_hub.dataset.publishing.publish import plan_publication, publish
from ifllm_hub.errors import IfllmError
from tests.hub.faults import What
from tests.hub.publishing import REPO, command, content, edit_card, edit_contents, rows, send
from tests.hub.server import NO_ROLE_TOKEN, OTHER_TOKEN, READ_TOKEN, Hub


def remove_column(folder: Path) -> str:
    for path in (folder / "data" / "pointwise").iterdir():
        table = pq.read_table(path).drop_columns("task_id")
        pq.write_table(table.replace_schema_metadata(None), path)
    edit_contents(folder, lambda contents: contents["pointwise"]["columns"].pop("task_id"))
    return "pointwise.task_id: int64 -> none"


def change_type(folder: Path) -> str:
    for path in (folder / "data" / "pointwise").iterdir():
        table = pq.read_table(path)
        at = table.schema.get_field_index("turn")
        table = table.set_column(at, "turn", table["turn"].cast("int64"))
        pq.write_table(table.replace_schema_metadata(None), path)
    edit_contents(folder, lambda contents: contents["pointwise"]["columns"].update(turn="int64"))
    return "pointwise.turn: int32 -> int64"


def remove_config(folder: Path) -> str:
    was = rows(folder, "features")
    shutil.rmtree(folder / "data" / "features")
    edit_contents(folder, lambda contents: contents.pop("features"))
    edit_card(folder, lambda data: data.update(configs=[c for c in data["configs"] if c["config_name"] != "features"]))
    return f"features train: {was} rows -> none"


@pytest.mark.parametrize("spoil", [remove_column, change_type, remove_config])
def test_what_breaks_readers_needs_to_be_insisted_on(spoil, old, hub, tmp_path) -> None:
    send(old)
    folder = shutil.copytree(old, tmp_path / "d")
    line = spoil(folder)
    plan = plan_publication(folder, REPO)
    assert f"  {line} (breaks readers)" in str(plan).splitlines()
    with pytest.raises(IfllmError, match=r"breaks code that reads.*--allow-breaking"):
        publish(plan)
    assert hub.files(REPO) == content(old)
    publish(plan, allow_breaking=True)
    assert hub.files(REPO) == content(folder)
    assert plan_publication(old, REPO).breaking == (("pointwise.turn: int64 -> int32",) if spoil is change_type else ())


def foreign_dataset(hub: Hub) -> None:
    HfApi().create_repo(REPO, repo_type="dataset")
    HfApi().upload_file(path_or_fileobj=b"1", path_in_repo="table.csv", repo_id=REPO, repo_type="dataset")


def foreign_manifest(hub: Hub) -> None:
    HfApi().create_repo(REPO, repo_type="dataset")
    manifest = b'{"version": 1}'
    HfApi().upload_file(path_or_fileobj=manifest, path_in_repo="manifest.json", repo_id=REPO, repo_type="dataset")


def private_of_others(hub: Hub) -> None:
    HfApi(token=OTHER_TOKEN).create_repo("eve/ifllm", repo_type="dataset", private=True)


REFUSALS = {
    "no token": (None, REPO, lambda hub: None, "No Hugging Face token: log in with `hf auth login`"),
    "bad token": ("hf_wrong", REPO, lambda hub: None, "the Hub does not accept the token"),
    "read token": (READ_TOKEN, REPO, lambda hub: None, "this token may not write there"),
    "no role": (NO_ROLE_TOKEN, REPO, lambda hub: None, "this token may not write there"),
    "not a member": (OTHER_TOKEN, REPO, lambda hub: None, "don't have the rights"),
    "private of others": ("hf_write", "eve/ifllm", private_of_others, "don't have the rights"),
    "a model": ("hf_write", REPO, lambda hub: HfApi().create_repo(REPO), "is a model on the Hub"),
    "a space": (
        "hf_write",
        REPO,
        lambda hub: HfApi().create_repo(REPO, repo_type="space", space_sdk="static"),
        "is a space on the Hub",
    ),
    "foreign dataset": ("hf_write", REPO, foreign_dataset, "was not made by this command"),
    "foreign manifest": ("hf_write", REPO, foreign_manifest, "or replace all of it with --force"),
    "name taken": (
        "hf_write",
        REPO,
        lambda hub: hub.faults.add(What.REFUSE, lambda call: "create" in call.path, status=409),
        "the name is taken on the Hub",
    ),
    "no owner": ("hf_write", "ifllm", lambda hub: None, "not a Hub repo id (owner/name)"),
    "bad name": ("hf_write", "lab/if llm", lambda hub: None, "not a Hub repo id"),
    "Hub down": ("hf_write", REPO, lambda hub: hub.__exit__(), "failed or cannot be reached"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_one_line_and_leaves_nothing(case, old, hub, capsys, monkeypatch, no_waiting) -> None:
    token, repo_id, prepare, message = REFUSALS[case]
    prepare(hub)
    before = {key: repo.main.oid for key, repo in hub.repos.items()}
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    code, _, error = command(capsys, monkeypatch, old, repo_id)
    assert code == 2
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in error
    assert {key: repo.main.oid for key, repo in hub.repos.items()} == before


def test_a_foreign_repo_is_replaced_if_insisted(old, hub, capsys, monkeypatch) -> None:
    foreign_dataset(hub)
    assert command(capsys, monkeypatch, old, REPO, "--force")[0] == 0
    assert hub.files(REPO).keys() == content(old).keys()


def test_offline_mode_is_said(old, hub, monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(IfllmError, match="offline mode is enabled"):
        plan_publication(old, REPO)


def test_a_commit_of_somebody_else_is_not_overwritten(old, new, hub) -> None:
    send(old)
    plan = plan_publication(new, REPO)
    HfApi().upload_file(path_or_fileobj=b"1", path_in_repo="theirs.txt", repo_id=REPO, repo_type="dataset")
    with pytest.raises(IfllmError, match="somebody else committed in the meantime"):
        publish(plan)
    assert hub.files(REPO) == {**content(old), "theirs.txt": b"1"}
    send(new)
    assert hub.files(REPO) == {**content(new), "theirs.txt": b"1"}


def test_a_folder_that_changes_under_way_is_noticed(old, hub, tmp_path) -> None:
    folder = shutil.copytree(old, tmp_path / "d")
    plan = plan_publication(folder, REPO)
    (folder / "figures" / "old.png").write_bytes(b"changed")
    with pytest.raises(IfllmError, match=r"figures/old\.png on the Hub differs from the folder"):
        publish(plan)
    send(folder)
    assert hub.files(REPO) == content(folder)


def no_manifest(folder: Path) -> str:
    (folder / "manifest.json").unlink()
    return "no manifest.json"


def no_card(folder: Path) -> str:
    (folder / "README.md").unlink()
    return "no README.md"


def bad_yaml(folder: Path) -> str:
    (folder / "README.md").write_text("---\nconfigs: [\n---\n")
    return "YAML header cannot be read"


def card_without_configs(folder: Path) -> str:
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    return "its `configs` are not those of contents.json"


def card_of_other_splits(folder: Path) -> str:
    edit_card(folder, lambda data: data["configs"][0]["data_files"].pop())
    return "its `configs` are not those of contents.json"


def card_of_other_places(folder: Path) -> str:
    edit_card(folder, lambda data: data["configs"][0]["data_files"][0].update(path="/etc/*"))
    return "its `configs` are not those of contents.json"


def card_of_a_list_of_places(folder: Path) -> str:
    edit_card(folder, lambda data: data["configs"][0]["data_files"][0].update(path=["data/*.parquet"]))
    return "its `configs` are not those of contents.json"


def card_that_is_a_list(folder: Path) -> str:
    (folder / "README.md").write_text("---\n- 1\n---\n")
    return "YAML header cannot be read"


def no_contents(folder: Path) -> str:
    (folder / "contents.json").unlink()
    return "contents.json: missing or damaged"


def contents_of_another_kind(folder: Path) -> str:
    edit_contents(folder, lambda contents: contents["pairwise"]["rows"].update(train=True))
    return "contents.json: damaged"


def contents_without_columns(folder: Path) -> str:
    edit_contents(folder, lambda contents: contents["pairwise"].update(columns=[1]))
    return "contents.json: missing or damaged"


def nested_contents(folder: Path) -> str:
    (folder / "contents.json").write_text("[" * 100_000)
    return "contents.json: missing or damaged"


def truncated_parquet(folder: Path) -> str:
    path = folder / "data" / "trajectories" / "train-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    return "train-00000-of-00001.parquet: is not readable Parquet"


def garbled_page(folder: Path) -> str:
    path = folder / "data" / "pairwise" / "train-00000-of-00001.parquet"
    data = bytearray(path.read_bytes())
    data[100:400] = bytes(300)  # inside a page; the footer still reads well
    path.write_bytes(data)
    return "train-00000-of-00001.parquet: is not readable Parquet"


def missing_parquet(folder: Path) -> str:
    was = rows(folder, "features", "test")
    (folder / "data" / "features" / "test-00000-of-00001.parquet").unlink()
    return f"0 rows, but contents.json says {was}"


def a_pipe(folder: Path) -> str:
    path = folder / "data" / "features" / "test-00000-of-00001.parquet"
    path.unlink()
    os.mkfifo(path)
    return "test-00000-of-00001.parquet: is not a file"


def other_rows(folder: Path) -> str:
    path = folder / "data" / "features" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path)[:-1], path)
    return f"{rows(folder, 'features')} rows, but contents.json says {rows(folder, 'features') + 1}"


def other_columns(folder: Path) -> str:
    path = folder / "data" / "features" / "train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns("mode"), path)
    return "its columns are not those in contents.json"


@pytest.mark.parametrize(
    "spoil",
    [
        no_manifest,
        no_card,
        bad_yaml,
        card_without_configs,
        card_of_other_splits,
        card_of_other_places,
        card_of_a_list_of_places,
        card_that_is_a_list,
        no_contents,
        contents_of_another_kind,
        contents_without_columns,
        nested_contents,
        truncated_parquet,
        garbled_page,
        missing_parquet,
        a_pipe,
        other_rows,
        other_columns,
    ],
)
def test_a_folder_that_is_not_sound_is_refused_before_any_request(spoil, old, hub, tmp_path) -> None:
    folder = shutil.copytree(old, tmp_path / "d")
    message = spoil(folder)
    with pytest.raises(IfllmError, match=message):
        plan_publication(folder, REPO)
    assert hub.faults.calls == []
