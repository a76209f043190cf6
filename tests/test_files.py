"""What is written is there whole or not at all, and what was there before stays until then."""

import errno
import os
from pathlib import Path

import pytest

from ifllm_hub import files
from ifllm_hub.errors import IfllmError
from ifllm_hub.files import clear_leftovers, read_json, replacing_folder, unfinished, write_atomically

MARK = "manifest.json"


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def fill(folder: Path, content: str) -> None:
    (folder / MARK).write_text(content)
    (folder / "data").mkdir()
    (folder / f"data/{content}.txt").write_text(content)


def replace(target: Path, content: str, error: BaseException | None = None) -> None:
    with replacing_folder(target, MARK) as folder:
        fill(folder, content)
        if error:
            raise error


@pytest.fixture
def old(tmp_path: Path) -> Path:
    replace(tmp_path / "out", "old")
    return tmp_path / "out"


OLD = ["data", "data/old.txt", MARK]


def test_a_new_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep/er/out"
    with replacing_folder(target, MARK) as folder:
        fill(folder, "new")
        assert not target.exists()
    assert names(target) == ["data", "data/new.txt", MARK]
    assert names(target.parent) == ["out", "out/data", "out/data/new.txt", f"out/{MARK}"]
    assert oct(target.stat().st_mode)[-3:] == "755"
    umask = os.umask(0o077)
    try:
        with replacing_folder(target, MARK) as partial:
            (partial / MARK).touch()
    finally:
        os.umask(umask)
    assert oct(target.stat().st_mode)[-3:] == "700"


def test_an_earlier_folder_is_replaced_as_a_whole(old: Path) -> None:
    with replacing_folder(old, MARK) as folder:
        fill(folder, "new")
        assert names(old) == OLD
    assert names(old) == ["data", "data/new.txt", MARK]
    assert [path.name for path in old.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    replace(tmp_path / "out", "new")
    assert names(tmp_path) == ["out", "out/data", "out/data/new.txt", f"out/{MARK}"]


def test_behind_a_link_the_folder_is_replaced_and_the_link_stays(old: Path) -> None:
    link = old.with_name("link")
    link.symlink_to(old)
    replace(link, "new")
    assert link.is_symlink()
    assert names(old) == ["data", "data/new.txt", MARK]
    assert sorted(path.name for path in old.parent.iterdir()) == ["link", "out"]


@pytest.mark.parametrize("error", [ValueError("bad row"), KeyboardInterrupt(), IfllmError("bad release")])
def test_a_failure_leaves_the_old_folder_and_nothing_else(old: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        replace(old, "new", error)
    assert names(old) == OLD
    assert [path.name for path in old.parent.iterdir()] == ["out"]


def test_a_full_disk_is_said(old: Path) -> None:
    with pytest.raises(IfllmError, match=r"out: cannot be written \(No space left on device\)"):
        replace(old, "new", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert names(old) == OLD
    assert [path.name for path in old.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("failing", [1, 2])
def test_when_a_rename_fails_the_old_folder_is_back_in_place(
    old: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    rename, calls = Path.rename, []

    def fail_once(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == failing:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fail_once)
    with pytest.raises(IfllmError, match="Input/output error"):
        replace(old, "new")
    assert len(calls) >= failing
    assert names(old) == OLD
    assert [path.name for path in old.parent.iterdir()] == ["out"]


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/thesis.txt").write_text("mine")
    for name in ("file", "folder"):
        with (
            pytest.raises(IfllmError, match=rf"{name}: exists and was not made by this command \(no manifest\.json\)"),
            replacing_folder(tmp_path / name, MARK),
        ):
            pytest.fail("the block must not run")
    assert names(tmp_path) == ["file", "folder", "folder/thesis.txt"]
    assert (tmp_path / "file").read_text() == (tmp_path / "folder/thesis.txt").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for target in (tmp_path / "file/out", Path("/proc/none/out")):
        with (
            pytest.raises(IfllmError, match=rf"{target}: cannot be written .*Choose a folder"),
            replacing_folder(target, MARK),
        ):
            pytest.fail("the block must not run")


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    write_atomically(path, "naïve")
    assert path.read_bytes() == "naïve".encode()
    write_atomically(path, b"\xff")
    assert path.read_bytes() == b"\xff"
    assert names(tmp_path) == ["note.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")

    def fail(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.Path, "replace", fail)
    with pytest.raises(IfllmError, match=r"note\.txt: cannot be written \(No space left on device\)"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["note.txt"]
    with pytest.raises(IfllmError, match=r"nowhere/note\.txt: cannot be written"):
        write_atomically(tmp_path / "nowhere/note.txt", "new")


def test_json_is_read_or_said_to_be_damaged(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text('{"a": [1, "é"]}', encoding="utf-8")
    assert read_json(tmp_path / "good.json") == {"a": [1, "é"]}
    (tmp_path / "cut.json").write_text('{"a": [1,')
    (tmp_path / "latin.json").write_bytes(b'"\xe9"')
    for name in ("cut.json", "latin.json", "gone.json"):
        with pytest.raises(IfllmError, match=rf"{name}: missing or damaged .*Run the command that writes it again"):
            read_json(tmp_path / name)


def test_what_killed_runs_left_is_cleared_and_an_old_folder_comes_back(tmp_path: Path) -> None:
    target = tmp_path / "out"
    others = [tmp_path / name for name in (".out.lock", ".outer-0123abcd", ".out-notes", ".out-0123abcdX")]
    left = [
        tmp_path / name for name in (".out-0123abcd", ".out-0123abcd.old", ".out.unfinished", ".out.unfinished.old")
    ]
    for folder in (target, *others, *left):
        folder.mkdir()
        (folder / "whose").write_text(folder.name)
    clear_leftovers(target, resumed=True)
    assert set(tmp_path.iterdir()) == {target, *others, unfinished(target)}
    clear_leftovers(target)
    assert set(tmp_path.iterdir()) == {target, *others}
    target.rename(tmp_path / ".out.unfinished.old")  # killed between the two renames
    unfinished(target).mkdir()
    clear_leftovers(target)
    assert set(tmp_path.iterdir()) == {target, *others}
    assert (target / "whose").read_text() == "out"


@pytest.mark.parametrize("place", ["s3://bucket/out", "hf://buckets/lab/out"])
def test_an_address_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    for target in (Path(place), Path(place).resolve()):
        with pytest.raises(IfllmError, match="is an address, not a folder"), replacing_folder(target, "made"):
            pass
    assert list(tmp_path.iterdir()) == []
