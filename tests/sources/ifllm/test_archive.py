"""However a release is packed, the same release is opened; whatever is broken is named, and nothing half-made stays."""

import io
import lzma
import os
import shutil
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pytest

from ifllm_hub.errors import IfllmError
from ifllm_hub.sources.ifllm import archive as source
from ifllm_hub.sources.ifllm.archive import Release, default_cache, inventory, open_release

PACKINGS = ("tar", "tar.xz", "tar.gz", "tar.bz2", "tar.zst", "zip")
CHECKED = ("tar.xz", "tar.gz", "tar.bz2", "zip")  # a plain tar has no checksum, and Arrow writes zstd without one


def pack(folder: Path, archive: Path, prefix: str = "dataset") -> Path:
    """Pack the files of a folder, in an order that is not the sorted one."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), reverse=True)
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
            for path in files:
                bundle.write(path, f"{prefix}/{path.relative_to(folder)}")
        return archive
    out = io.BytesIO()
    compression = archive.suffix[1:] if archive.suffix in (".xz", ".gz", ".bz2") else ""
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as tar:
        for path in files:
            tar.add(path, f"{prefix}/{path.relative_to(folder)}")
    content = out.getvalue()
    archive.write_bytes(pa.compress(content, "zstd", asbytes=True) if archive.suffix == ".zst" else content)
    return archive


@pytest.fixture(scope="module")
def small(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables and two conversations of the simulated release: quick to pack."""
    root = tmp_path_factory.mktemp("small") / "dataset"
    for kind in (True, False):
        task = next(task for task in release.tasks if task.pairwise is kind)
        shutil.copytree(task.path, root / task.path.relative_to(release.root))
    for table in source.TABLES:
        shutil.copy(release.root / table, root / table)
    return root


@pytest.fixture
def copy(small: Path, tmp_path: Path) -> Path:
    return shutil.copytree(small, tmp_path / "copy")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def left_behind(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def digest_by_hand(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = sorted(f"{sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root).as_posix()}" for path in files)
    return sha256("\n".join(lines).encode()).hexdigest()


# --- folders


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


# --- archives


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


def add(archive: Path, **contents: bytes) -> None:
    """Pack more files, anew where the packing cannot be added to."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as bundle:
            for name, content in contents.items():
                bundle.writestr(name, content)
        return
    plain = archive.with_name("plain.tar")
    with lzma.open(archive) as packed:
        plain.write_bytes(packed.read())
    with tarfile.open(plain, "a") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive.write_bytes(lzma.compress(plain.read_bytes(), preset=0))


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
