"""Archives that would fill the disk, write elsewhere or hide something do none of it, and nothing half-made stays."""

import io
import lzma
import shutil
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm import archive as source
from ifllm_hub.sources.ifllm.archive import open_release
from tests.sources.ifllm.archive.packed import add, digest_by_hand, left_behind, pack


@pytest.mark.parametrize("packing", ["tar.xz", "zip"])
@pytest.mark.parametrize("name", ["user_behavior/worker_x/7/abs_gaze.csv", "holiday.jpg"])
def test_an_archive_that_would_fill_the_disk_is_refused_and_leaves_nothing(
    small: Path, cache: Path, packing: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(small, cache.with_name(f"release.{packing}"))
    size = sum(path.stat().st_size for path in small.rglob("*.csv"))
    monkeypatch.setattr(source, "_ALWAYS_UNPACKED", size + 200_000)
    monkeypatch.setattr(source, "_MAX_RATIO", 1)
    assert open_release(archive, cache.with_name("other")).tasks
    add(archive, **{name: bytes(10_000_000)})
    assert archive.stat().st_size < size
    with pytest.raises(IfllmError, match=r"release.* unpacks to more than a release may: 10 GB, 1 times the archive"):
        open_release(archive, cache)
    assert list((cache / "releases").iterdir()) == []


@pytest.mark.parametrize("packing", ["tar.xz", "zip"])
def test_an_archive_of_very_many_files_is_refused_and_leaves_nothing(
    small: Path, cache: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(small, cache.with_name(f"release.{packing}"))
    monkeypatch.setattr(source, "_MAX_FILES", sum(path.is_file() for path in small.rglob("*")))
    assert open_release(archive, cache.with_name("other")).tasks
    add(archive, notes=b"")
    with pytest.raises(IfllmError, match=r"or 1\d files\. Nothing of it was kept"):
        open_release(archive, cache)
    assert list((cache / "releases").iterdir()) == []


@pytest.mark.parametrize("where", ["in a header", "behind the end"])
def test_what_a_tar_hides_is_counted_too(small: Path, cache: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = pack(small, cache.with_name("plain.tar"))
    monkeypatch.setattr(source, "_ALWAYS_UNPACKED", plain.stat().st_size + 200_000)
    monkeypatch.setattr(source, "_MAX_RATIO", 1)
    if where == "in a header":
        member = tarfile.TarInfo("x")
        member.pax_headers = {"comment": " " * 10_000_000}
        with tarfile.open(plain, "a", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(member)
    else:
        plain.write_bytes(plain.read_bytes() + bytes(10_000_000))
    archive = cache.with_name("release.tar.xz")
    archive.write_bytes(lzma.compress(plain.read_bytes(), preset=0))
    with pytest.raises(IfllmError, match="unpacks to more than a release may"):
        open_release(archive, cache)
    assert left_behind(cache) == []


def test_the_holes_of_a_sparse_file_are_not_written(small: Path, cache: Path) -> None:
    archive = pack(small, cache.with_name("release.tar"))
    member = tarfile.TarInfo("dataset/query_logs_table.csv")
    member.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.map": "0,0"}
    member.pax_headers |= {"GNU.sparse.size": str(1 << 40), "GNU.sparse.numblocks": "1"}
    with tarfile.open(archive, "a", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(member)
    with tarfile.open(archive) as tar:
        assert tar.getmembers()[-1].issparse()
    assert open_release(archive, cache).digest() == digest_by_hand(small)


def test_a_zip_made_on_windows_is_the_same_release(small: Path, cache: Path) -> None:
    archive = cache.with_name("release.zip")
    with zipfile.ZipFile(archive, "w") as bundle:
        for path in small.rglob("*.csv"):
            member = zipfile.ZipInfo("x")
            member.filename = "repo\\dataset\\" + str(path.relative_to(small)).replace("/", "\\")
            bundle.writestr(member, path.read_bytes())
        climbing = zipfile.ZipInfo("x")
        climbing.filename = "dataset\\..\\..\\query_logs_table.csv"
        bundle.writestr(climbing, b"evil")
    release = open_release(archive, cache)
    assert release.digest() == digest_by_hand(small)
    assert sorted(left_behind(cache)) == sorted(release.paths())


@pytest.mark.parametrize("packing", ["tar", "zip"])
@pytest.mark.parametrize(
    "name",
    [
        "user_behavior/../../abs_gaze.csv",
        "dataset/user_behavior/../../abs_gaze.csv",
        "../../../query_logs_table.csv",
        "/elsewhere/../../task_table.csv",
        "../user_behavior/../../../../abs_gaze.csv",
    ],
)
def test_names_that_climb_out_write_nothing_outside(copy: Path, cache: Path, packing: str, name: str) -> None:
    archive = pack(copy, cache.with_name(f"release.{packing}"))
    if packing == "zip":
        with zipfile.ZipFile(archive, "a") as bundle:
            bundle.writestr(name, "evil")
    else:
        with tarfile.open(archive, "a") as tar:
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
    before = {path for path in cache.parent.rglob("*") if path.is_file()}
    release = open_release(archive, cache)
    assert release.digest() == digest_by_hand(copy)
    assert {path for path in cache.parent.rglob("*") if path.is_file()} - before == set(release.paths())


def test_links_in_an_archive_are_not_followed(copy: Path, cache: Path) -> None:
    table = copy / "task_table.csv"
    secret = cache.with_name("secret")
    secret.write_text("secret")
    table.unlink()
    table.symlink_to(secret)
    archive = pack(copy, cache.with_name("release.tar"))
    with pytest.raises(IfllmError, match=r"task_table\.csv: this table of the release is missing"):
        open_release(archive, cache)


def test_a_cache_that_cannot_be_written_is_named(small: Path, cache: Path) -> None:
    archive = pack(small, cache.with_name("release.zip"))
    cache.write_text("a file")
    with pytest.raises(IfllmError, match=r"cache/releases: cannot write the unpacked release .*Set IFLLM_CACHE"):
        open_release(archive, cache)
    with pytest.raises(IfllmError, match="cannot write the unpacked release"):
        open_release(archive, Path("/proc/none"))
    assert cache.read_text() == "a file"


def test_another_process_may_unpack_the_same_archive_first(small: Path, cache: Path) -> None:
    archive = pack(small, cache.with_name("release.zip"))
    other = cache / "releases" / sha256(archive.read_bytes()).hexdigest()

    def meanwhile(share: float) -> None:
        if share == 1:
            shutil.copytree(small, other)

    assert open_release(archive, cache, meanwhile).root == other
    assert [path.name for path in (cache / "releases").iterdir()] == [other.name]
