"""A folder, an archive or a URL -> an unpacked, inventoried release."""

import bz2
import contextlib
import gzip
import hashlib
import http.client
import lzma
import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Protocol

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.terms import Advance

COMMIT = "923bac0"
RELEASE_URL = f"https://github.com/themehulpatwari/llm-implicit-feedback/archive/{COMMIT}.tar.gz"
# sha256 over the sorted "sha256  path" lines of the three tables and the 2,362 behavior files at that commit.
# The content is pinned, not the archive: hosts do not promise byte-stable archives.
RELEASE_DIGEST = "a416a2be78dd374c61471ef7ecd0c023e5216bcf96feb0023d52087067f41795"

TABLES = ("query_logs_table.csv", "record_info_table.csv", "task_table.csv")
POINTWISE_FILES = ("abs_gaze.csv", "abs_mouse.csv", "rel_gaze.csv", "rel_mouse.csv")
PAIRWISE_FILES = (
    "abs_gaze.csv",
    "abs_mouse.csv",
    "rel_gaze_one.csv",
    "rel_gaze_two.csv",
    "rel_mouse_left.csv",
    "rel_mouse_right.csv",
)
_BEHAVIOR_FILES = frozenset(POINTWISE_FILES + PAIRWISE_FILES)
# RuntimeError is what zipfile raises for an encrypted member or an unknown compression.
_BROKEN_ARCHIVE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    lzma.LZMAError,
    zlib.error,
    OSError,
    RuntimeError,
)

# The study's release unpacks to 0.5 GB in 2,909 files, 7 times its .tar.xz; an archive of far more is an attack.
_MAX_UNPACKED, _MAX_RATIO, _MAX_FILES = 10 << 30, 100, 20_000
# Small archives may have any compression ratio.
_ALWAYS_UNPACKED = 64 << 20


class _Readable(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True)
class TaskFolder:
    """The behavior files of one conversation: `root/user_behavior/<worker_id>/<task_id>/`."""

    worker_id: str
    task_id: int
    path: Path
    pairwise: bool

    @property
    def files(self) -> tuple[str, ...]:
        return PAIRWISE_FILES if self.pairwise else POINTWISE_FILES


@dataclass(frozen=True)
class Release:
    """An unpacked release: the folder with the three tables, and its behavior folders in (worker, task) order."""

    root: Path
    tasks: tuple[TaskFolder, ...]

    def paths(self) -> Iterator[Path]:
        """Every file that belongs to the release, in a fixed order."""
        for table in TABLES:
            yield self.root / table
        for task in self.tasks:
            for name in task.files:
                yield task.path / name

    def fingerprint(self) -> str:
        """A cheap identity (names, sizes, modification times) that tells whether work must be redone."""
        digest = hashlib.sha256()
        for path in self.paths():
            stat = path.stat()
            digest.update(f"{path.relative_to(self.root).as_posix()} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()

    def digest(self) -> str:
        """sha256 of the content of every file, independent of where and how the release was packed."""
        lines = sorted(
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(self.root).as_posix()}"
            for path in self.paths()
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def open_release(source: str | Path, cache_dir: Path | None = None, advance: Advance | None = None) -> Release:
    """Open a release given as a folder, a `.tar.xz/.tar.gz/.tar.zst/.tar/.zip` archive or an http(s) URL.

    Archives are unpacked once into `cache_dir` (default: `IFLLM_CACHE`, else `~/.cache/ifllm_hub`), keyed by their
    sha256. A download from `RELEASE_URL` is verified against `RELEASE_DIGEST`.

    Args:
        advance: called with the share done (0-1) while unpacking.

    Raises:
        IfllmError: the source does not exist, is broken, is not a release, lacks a file, or is an archive with far more
            bytes or files than a release has.

    Examples:
        >>> from ifllm_hub.sources.ifllm.archive import open_release
        >>> release = open_release("simulated")
        >>> len(release.tasks)  # conversations that somebody was seen reading
        18
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        archive = _download(source, cache_dir or default_cache())
        try:
            release = inventory(_unpack(archive, cache_dir, advance))
        except IfllmError:
            archive.unlink(missing_ok=True)  # else every later run would find the same broken download
            raise
        if source == RELEASE_URL and release.digest() != RELEASE_DIGEST:
            raise IfllmError(
                f"{source}: the content differs from commit {COMMIT} (expected digest {RELEASE_DIGEST}). "
                "Delete the cache folder and download again; if it persists, the upstream repository was rewritten."
            )
        return release
    path = Path(source)
    if not path.exists():
        raise IfllmError(f"{path}: no such file or folder. Give the release's folder, its archive, or {RELEASE_URL}.")
    return inventory(path if path.is_dir() else _unpack(path, cache_dir, advance))


def default_cache() -> Path:
    """Where archives are unpacked: `IFLLM_CACHE`, else `$XDG_CACHE_HOME/ifllm_hub`, else `~/.cache/ifllm_hub`.

    Raises:
        IfllmError: neither is set, and there is no home folder.
    """
    if own := os.environ.get("IFLLM_CACHE"):
        return Path(own)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "ifllm_hub"
    try:
        return Path.home() / ".cache" / "ifllm_hub"
    except RuntimeError as error:
        raise IfllmError("There is no home folder to unpack the release in. Set IFLLM_CACHE to a folder.") from error


def inventory(folder: Path) -> Release:
    """List what a folder holds, and refuse it unless it is a complete release.

    The tables may lie in `folder`, in `folder/dataset`, or in `folder/<anything>/dataset`.

    Raises:
        IfllmError: no table is found, one of the three is missing, or a behavior file is missing or empty.
    """
    candidates = [folder, folder / "dataset", *sorted(folder.glob("[!.]*/dataset"))]
    root = next((c for c in candidates if any((c / table).is_file() for table in TABLES)), None)
    if root is None:
        raise IfllmError(
            f"{folder}: not an IFLLM release: none of {', '.join(TABLES)} is here or in dataset/. "
            "Point to the unpacked release or to its archive."
        )
    for table in TABLES:
        if not (root / table).is_file():
            raise IfllmError(f"{root / table}: this table of the release is missing. Unpack the release again.")
    # Hidden folders (.ipynb_checkpoints) are not the study's: editors and file managers leave them.
    tasks = [_task_folder(path) for path in (root / "user_behavior").glob("[!.]*/[!.]*") if path.is_dir()]
    if not tasks:
        raise IfllmError(f"{root / 'user_behavior'}: no behavior folders. Unpack the release again.")
    return Release(root, tuple(sorted(tasks, key=lambda task: (task.worker_id, task.task_id))))


def _task_folder(path: Path) -> TaskFolder:
    if not path.name.isdecimal() or int(path.name) >= 1 << 63:
        raise IfllmError(f"{path}: a behavior folder must be named by its task number. Unpack the release again.")
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(path)}
    pairwise = bool(sizes.keys() & (set(PAIRWISE_FILES) - set(POINTWISE_FILES)))
    task = TaskFolder(path.parent.name, int(path.name), path, pairwise)
    for name in task.files:
        if not sizes.get(name):
            state = "is empty" if name in sizes else "is missing"
            raise IfllmError(f"{path}: the behavior file {name} {state}. Unpack the release again.")
    return task


def _download(url: str, cache_dir: Path) -> Path:
    suffix = ".zip" if url.endswith(".zip") else ".tar" + PurePosixPath(url).suffix
    target = cache_dir / "downloads" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}{suffix}"
    if target.exists():
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=60) as response, partial.open("wb") as out:
            shutil.copyfileobj(_Bounded(response, _MAX_UNPACKED), out, 1 << 20)
            expected = response.headers.get("Content-Length")
        if expected is not None and partial.stat().st_size != int(expected):
            raise IfllmError(f"{url}: the download stopped early. Run the same command again.")
        partial.rename(target)
    except _TooMuchError:
        raise IfllmError(
            f"{url}: sends more than {_MAX_UNPACKED >> 30} GB, which no release has. Nothing is kept."
        ) from None
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise IfllmError(
            f"{url}: cannot be downloaded ({error}). Without a network, fetch the archive of commit {COMMIT} of the "
            "public repository elsewhere and pass its path, or the unpacked folder, instead of the URL."
        ) from error
    except OSError as error:
        raise IfllmError(f"{target.parent}: cannot write the download ({error}). Set IFLLM_CACHE.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return target


def _unpack(archive: Path, cache_dir: Path | None, advance: Advance | None) -> Path:
    """Unpack the release's own files beside the target, then rename, so that no folder is ever half unpacked."""
    try:
        with archive.open("rb") as file:
            key = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise IfllmError(f"{archive}: cannot be read ({error.strerror}).") from error
    releases = (cache_dir or default_cache()) / "releases"
    target = releases / key
    if target.is_dir():
        return target
    try:
        releases.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{key[:8]}-", dir=releases))
    except OSError as error:
        raise IfllmError(f"{releases}: cannot write the unpacked release ({error}). Set IFLLM_CACHE.") from error
    try:
        (_unzip if zipfile.is_zipfile(archive) else _untar)(archive, partial, advance or (lambda share: None))
        inventory(partial)
        partial.rename(target)
    except _TooMuchError:
        raise IfllmError(
            f"{archive}: unpacks to more than a release may: {_MAX_UNPACKED >> 30} GB, {_MAX_RATIO} times the archive "
            f"({_ALWAYS_UNPACKED >> 20} MB are always allowed) or {_MAX_FILES:,} files. Nothing of it was kept. If you "
            "trust it, unpack it yourself and give the folder."
        ) from None
    except IfllmError as error:
        raise IfllmError(str(error).replace(str(partial), str(archive))) from None
    except _BROKEN_ARCHIVE as error:
        if target.is_dir():  # another process unpacked the same archive first
            return target
        raise IfllmError(
            f"{archive}: cannot be unpacked ({first_line(error)[:200] or type(error).__name__}): truncated, damaged, "
            "or not a .tar.xz/.tar.gz/.tar.zst/.zip archive. Fetch it again and compare its checksum."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _wanted(name: str) -> PurePosixPath | None:
    """The path of an archive member inside the unpacked release, or None for files that are not part of it."""
    path = PurePosixPath(name.replace("\\", "/"))  # some archivers on Windows write these
    if ".." in path.parts:
        return None
    if path.name in TABLES:
        return PurePosixPath(path.name)
    if path.name in _BEHAVIOR_FILES and len(path.parts) >= 4 and path.parts[-4] == "user_behavior":
        return PurePosixPath(*path.parts[-4:])
    return None


def _untar(archive: Path, target: Path, advance: Advance) -> None:
    size = archive.stat().st_size
    with archive.open("rb") as raw, _decompressed(raw) as unbounded:
        stream = _Bounded(unbounded, _bound(archive))
        # tarfile only reads from it.
        with tarfile.open(fileobj=stream, mode="r|") as tar:  # type: ignore[call-overload]
            for number, member in enumerate(tar):
                if number >= _MAX_FILES:
                    raise _TooMuchError
                wanted = _wanted(member.name)
                # A sparse file's holes are not in the stream, so the byte count would miss them.
                content = tar.extractfile(member) if wanted and member.isfile() and not member.issparse() else None
                if wanted and content:
                    _write(content, target, wanted)
                    advance(raw.tell() / size)
            # tarfile treats a damaged header after the first as the archive's end; the true end is two empty blocks.
            if tar.fileobj is None or tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("the archive ends early")
        while stream.read(1 << 20):  # the checksum comes after the last byte
            pass


def _decompressed(raw: IO[bytes]) -> IO[bytes] | gzip.GzipFile:
    """The tar stream inside an archive. Unlike tarfile's own decompression, these readers verify checksums."""
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(raw)
    if head.startswith(b"\xfd7zXZ\x00"):
        return lzma.open(raw)
    if head.startswith(b"BZh"):
        return bz2.open(raw)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow as pa

        # tarfile supports zstd only from Python 3.14 on; Arrow ships the codec.
        return pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd")
    return raw


def _bound(archive: Path) -> int:
    """How much an archive may unpack to, bytes."""
    return min(_MAX_UNPACKED, max(_ALWAYS_UNPACKED, _MAX_RATIO * archive.stat().st_size))


class _TooMuchError(Exception):
    """An archive holds, or a server sends, more than the bounds allow."""


class _Bounded:
    """A stream that raises an error after `bound` bytes."""

    def __init__(self, stream: _Readable, bound: int):
        self._stream, self._left = stream, bound

    def read(self, size: int = -1, /) -> bytes:
        content = self._stream.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise _TooMuchError
        return content


def _unzip(archive: Path, target: Path, advance: Advance) -> None:
    with zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        # zipfile reads no more of a member than the size declared here.
        if len(members) > _MAX_FILES or sum(member.file_size for member in members) > _bound(archive):
            raise _TooMuchError
        for done, member in enumerate(members, start=1):
            wanted = _wanted(member.filename)
            if wanted and not member.is_dir():
                with bundle.open(member) as content:
                    _write(content, target, wanted)
                advance(done / len(members))


def _write(content: IO[bytes], folder: Path, name: PurePosixPath) -> None:
    """Write a file of the release; an archive with two files of one name is refused, as either could be meant."""
    path = folder / name
    if path.exists():
        raise IfllmError(f"{path}: is in the archive more than once. Pack a single release.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        shutil.copyfileobj(content, out)
