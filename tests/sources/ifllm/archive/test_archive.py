"""However a release is packed, the same release is opened; a broken archive is named, and nothing half-made stays."""

import os
import tarfile
from pathlib import Path

import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm import archive as source
from ifllm_hub.sources.ifllm.archive import default_cache, inventory, open_release
from tests.sources.ifllm.archive.packed import CHECKED, PACKINGS, digest_by_hand, left_behind, pack


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("prefix", ["dataset", "repo-923bac0/dataset", "./dataset"])
def test_every_packing_gives_the_same_release(small: Path, cache: Path, packing: str, prefix: str) -> None:
    archive = pack(small, cache.with_name(f"release.{packing}"), prefix)
    shares: list[float] = []
    release = open_release(archive, cache, shares.append)
    assert release.digest() == digest_by_hand(small)
    assert shares == sorted(shares)
    assert 0 <= shares[0] <= shares[-1] <= 1
    assert {path.name for path in left_behind(cache)} <= {path.name for path in small.rglob("*.csv")}


def test_what_does_not_belong_to_the_release_stays_packed(copy: Path, cache: Path) -> None:
    for name in ("run.sh", "user_behavior/run.sh", "user_behavior/worker_x/7/notes.csv", "abs_gaze.csv"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("x")
    release = open_release(pack(copy, cache.with_name("release.zip")), cache)
    assert sorted(left_behind(cache)) == sorted(release.paths())


def test_the_second_opening_unpacks_nothing(small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(small, cache.with_name("release.tar.gz"))
    first = open_release(archive, cache)
    monkeypatch.setattr(source, "_untar", None)
    renamed = archive.rename(archive.with_name("renamed.bin"))
    assert open_release(renamed, cache).root == first.root


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IFLLM_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own"
    monkeypatch.delenv("IFLLM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "ifllm_hub"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache() == tmp_path / ".cache" / "ifllm_hub"


def test_without_a_home_folder_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unknown() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    monkeypatch.delenv("IFLLM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "ifllm_hub"
    monkeypatch.delenv("XDG_CACHE_HOME")
    with pytest.raises(IfllmError, match=r"There is no home folder to unpack the release in\. Set IFLLM_CACHE"):
        default_cache()


@pytest.mark.parametrize("packing", PACKINGS)
def test_an_archive_cut_anywhere_is_refused_and_leaves_nothing(small: Path, cache: Path, packing: str) -> None:
    archive = pack(small, cache.with_name(f"release.{packing}"))
    whole = archive.read_bytes()
    # A tar ends in empty blocks up to a multiple of 10,240 bytes, two of which are needed.
    needed = len(whole.rstrip(b"\0")) + 512 if packing == "tar" else len(whole)
    for length in (0, 1, 100, needed // 3, needed // 3 * 2 // 512 * 512, needed - 1):
        archive.write_bytes(whole[:length])
        with pytest.raises(IfllmError, match=rf"release\.{packing}: cannot be unpacked .*Fetch it again"):
            open_release(archive, cache)
        assert list((cache / "releases").iterdir()) == []


def test_a_tar_cut_between_two_files_is_refused(small: Path, cache: Path) -> None:
    archive = pack(small, cache.with_name("release.tar"))
    with tarfile.open(archive) as tar:
        starts = [member.offset for member in tar]
    whole = archive.read_bytes()
    for cut in (starts[-1], starts[-1] + 200, starts[-2]):
        archive.write_bytes(whole[:cut])
        with pytest.raises(IfllmError, match=r"cannot be unpacked \(the archive ends early\)"):
            open_release(archive, cache)


@pytest.mark.parametrize("packing", CHECKED)
def test_a_damaged_byte_is_never_unpacked(small: Path, cache: Path, packing: str) -> None:
    archive = pack(small, cache.with_name(f"release.{packing}"))
    whole = archive.read_bytes()
    for at in range(len(whole) // 20, len(whole) * 9 // 10, len(whole) // 8):
        archive.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with pytest.raises(IfllmError, match="cannot be unpacked"):
            open_release(archive, cache)
    assert left_behind(cache) == []


def test_other_files_are_not_archives(cache: Path) -> None:
    other = cache.with_name("release.tar.gz")
    for content in (b"", b"<html>Not found</html>", b"\x1f\x8b", os.urandom(5000)):
        other.write_bytes(content)
        with pytest.raises(IfllmError, match=r"release\.tar\.gz: cannot be unpacked .*not a \.tar\.xz"):
            open_release(other, cache)
    assert left_behind(cache) == []


def test_an_encrypted_zip_is_refused(small: Path, cache: Path) -> None:
    archive = pack(small, cache.with_name("release.zip"))
    content = bytearray(archive.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(mark, at + 4)
    archive.write_bytes(content)
    with pytest.raises(IfllmError, match=r"release\.zip: cannot be unpacked \(.*encrypted"):
        open_release(archive, cache)
    assert left_behind(cache) == []


def test_an_incomplete_archive_is_named_by_its_own_path(copy: Path, cache: Path) -> None:
    missing = inventory(copy).tasks[0].path / "abs_mouse.csv"
    missing.unlink()
    archive = pack(copy, cache.with_name("release.tar.gz"))
    with pytest.raises(IfllmError, match=r"release\.tar\.gz/user_behavior/.*abs_mouse\.csv is missing") as error:
        open_release(archive, cache)
    assert str(cache) not in str(error.value)
    assert left_behind(cache) == []
