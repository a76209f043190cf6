"""A release in a folder is read where it is; what is missing or strange there is named."""

import os
import shutil
from pathlib import Path

import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm import archive as source
from ifllm_hub.sources.ifllm.archive import Release, inventory, open_release
from tests.sources.ifllm.archive.packed import digest_by_hand


@pytest.mark.parametrize("layout", [".", "dataset", "llm-implicit-feedback-923bac0/dataset"])
def test_a_folder_is_read_where_it_is(small: Path, tmp_path: Path, layout: str) -> None:
    shutil.copytree(small, tmp_path / layout, dirs_exist_ok=True)
    release = open_release(str(tmp_path))
    assert release.root == tmp_path / layout
    assert release.digest() == digest_by_hand(small)
    assert set(release.paths()) == {path for path in (tmp_path / layout).rglob("*") if path.is_file()}


def test_conversations_come_in_order_with_their_mode(release: Release) -> None:
    keys = [(task.worker_id, task.task_id) for task in release.tasks]
    folders = (release.root / "user_behavior").glob("*/*")
    assert keys == sorted((path.parent.name, int(path.name)) for path in folders)
    for task in release.tasks:
        assert task.pairwise == (task.path / "rel_mouse_left.csv").exists()
        assert sorted(task.files) == sorted(path.name for path in task.path.iterdir())


def test_digest_sees_content_and_names_but_not_times_and_fingerprint_sees_times(copy: Path) -> None:
    before = inventory(copy)
    digest, fingerprint = before.digest(), before.fingerprint()
    table = copy / source.TABLES[0]
    os.utime(table, (1, 1))
    assert inventory(copy).digest() == digest
    assert inventory(copy).fingerprint() != fingerprint
    table.write_bytes(table.read_bytes().replace(b"2025", b"2026", 1))
    assert inventory(copy).digest() != digest
    task = before.tasks[0].path
    task.rename(task.with_name("99999"))
    assert inventory(copy).tasks[0].task_id == 99999


def test_what_is_not_a_release_is_refused(tmp_path: Path, copy: Path) -> None:
    with pytest.raises(IfllmError, match="nowhere: no such file or folder"):
        open_release(tmp_path / "nowhere")
    (tmp_path / "photos").mkdir()
    with pytest.raises(IfllmError, match=r"photos: not an IFLLM release: none of query_logs_table\.csv"):
        open_release(tmp_path / "photos")
    shutil.rmtree(copy / "user_behavior")
    with pytest.raises(IfllmError, match="user_behavior: no behavior folders"):
        open_release(copy)


@pytest.mark.parametrize("table", source.TABLES)
def test_a_missing_table_is_named(copy: Path, table: str) -> None:
    (copy / table).unlink()
    with pytest.raises(IfllmError, match=rf"{table}: this table of the release is missing"):
        open_release(copy)


@pytest.mark.parametrize("pairwise", [True, False])
def test_every_missing_behavior_file_is_named(copy: Path, pairwise: bool) -> None:
    task = next(task for task in inventory(copy).tasks if task.pairwise is pairwise)
    for name in task.files:
        content = (task.path / name).read_bytes()
        (task.path / name).unlink()
        with pytest.raises(IfllmError, match=rf"{task.task_id}: the behavior file {name} is missing"):
            open_release(copy)
        (task.path / name).write_bytes(content)
    assert open_release(copy).tasks


def test_hidden_folders_are_not_the_studys(copy: Path) -> None:
    whole = inventory(copy).tasks
    worker = whole[0].path.parent
    for folder in (
        worker / ".ipynb_checkpoints",
        copy / "user_behavior" / ".Trash" / "notes",
        copy / ".old" / "dataset",
    ):
        folder.mkdir(parents=True)
    shutil.copy(copy / source.TABLES[0], copy / ".old" / "dataset")
    assert inventory(copy).tasks == whole
    shutil.copytree(copy, copy / "dataset")
    for table in source.TABLES:
        (copy / table).unlink()
    assert inventory(copy).root == copy / "dataset"


@pytest.mark.parametrize("name", ["notes", "1a", "²", str(2**63)])
def test_a_behavior_folder_without_a_task_number_is_refused(copy: Path, name: str) -> None:
    (copy / "user_behavior/worker_x" / name).mkdir(parents=True)
    with pytest.raises(IfllmError, match=f"{name}: a behavior folder must be named by its task number"):
        open_release(copy)
