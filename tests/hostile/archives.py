"""Archives of a release: a sound one, and in each one thing that an archive can do to who unpacks it."""

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Making = Callable[[Path, Path, np.random.Generator], None]  # release folder, archive to write

_TABLE = "dataset/query_logs_table.csv"
_BLOCK = 1 << 24
_LARGE = 180 * _BLOCK  # three gigabytes


def hostile_archives() -> list[tuple[str, Making]]:
    """Name and maker of each."""
    return [(f"archive: {name}", make) for name, make in _CASES]


def _files(release: Path) -> Iterator[tuple[str, bytes]]:
    root = release / "dataset"
    for path in sorted(root.rglob("*.csv")):
        yield f"dataset/{path.relative_to(root).as_posix()}", path.read_bytes()


def _packed(release: Path, wrap: str = "w:gz", skip: str = "") -> tuple[io.BytesIO, tarfile.TarFile]:
    raw = io.BytesIO()
    tar = tarfile.open(fileobj=raw, mode=wrap)  # noqa: SIM115 - the caller adds to it
    for name, content in _files(release):
        if name != skip:
            _add(tar, name, content)
    return raw, tar


def _add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


def _member(name: str, content: bytes = b"", **fields: object) -> Making:
    """A tar with one member more, or one of its own replaced by it."""

    def make(release: Path, archive: Path, rng: np.random.Generator) -> None:
        raw, tar = _packed(release, skip=name)
        with tar:
            _add(tar, name, content, **fields)
        archive.write_bytes(raw.getvalue())

    return make


def _bomb(compress: Callable[[bytes], bytes]) -> Making:
    """A table that unpacks to gigabytes, from a file of some kB: these formats may be strung together."""

    def make(release: Path, archive: Path, rng: np.random.Generator) -> None:
        member = tarfile.TarInfo(_TABLE)
        member.size = _LARGE
        archive.write_bytes(compress(member.tobuf()) + compress(bytes(_BLOCK)) * (_LARGE // _BLOCK))

    return make


def _zip_bomb(release: Path, archive: Path, rng: np.random.Generator, said: int = _LARGE) -> None:
    """Written by hand: blocks of deflate may be strung together, too. `said` is the size that the headers state."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(_BLOCK)) + deflate.flush(zlib.Z_FULL_FLUSH)
    data = block * (_LARGE // _BLOCK) + b"\x03\x00"
    name = _TABLE.encode()
    fields = struct.pack("<HHHHHIIIHH", 20, 0, zipfile.ZIP_DEFLATED, 0, 33, 0, len(data), said, len(name), 0)
    local = b"PK\x03\x04" + fields + name + data
    directory = b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(directory), len(local), 0)
    archive.write_bytes(local + directory + end)


def _lying(release: Path, archive: Path, rng: np.random.Generator) -> None:
    """The headers say that a member has one byte; it has gigabytes."""
    _zip_bomb(release, archive, rng, said=1)


def _overlapping(release: Path, archive: Path, rng: np.random.Generator) -> None:
    """A thousand members that are one and the same piece of the file, five gigabytes together."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("dataset/user_behavior/w/1000/rel_mouse.csv", bytes(5_000_000))
    content = archive.read_bytes()
    start, end = content.rfind(b"PK\x01\x02"), content.rfind(b"PK\x05\x06")
    members = [content[start:end].replace(b"/w/1000/", b"/w/%d/" % number) for number in range(1000, 2000)]
    record = bytearray(content[end:])
    struct.pack_into("<HHI", record, 8, len(members), len(members), len(b"".join(members)))
    archive.write_bytes(content[:start] + b"".join(members) + bytes(record))


def _many(release: Path, archive: Path, rng: np.random.Generator) -> None:
    """An empty file for each of very many conversations: every one takes a place on the disk."""
    headers = (tarfile.TarInfo(f"dataset/user_behavior/w/{number}/rel_mouse.csv").tobuf() for number in range(200_000))
    archive.write_bytes(gzip.compress(b"".join(headers) + bytes(2 * tarfile.BLOCKSIZE), compresslevel=1))


def _nested(release: Path, archive: Path, rng: np.random.Generator) -> None:
    raw, tar = _packed(release)
    tar.close()
    with tarfile.open(archive, "w:gz") as outer:
        _add(outer, "ifllm-release.tar.gz", raw.getvalue())


def _repeated_table(release: Path, archive: Path, rng: np.random.Generator) -> None:
    """Two tables of one name, of which a reader takes one and an auditor perhaps the other."""
    raw, tar = _packed(release)
    with tar:
        _add(tar, "other/" + _TABLE, b"user_id,task_id\n")
    archive.write_bytes(raw.getvalue())


def _trailing(release: Path, archive: Path, rng: np.random.Generator) -> None:
    raw, tar = _packed(release)
    tar.close()
    archive.write_bytes(raw.getvalue() + rng.bytes(1_000))


def _negative(release: Path, archive: Path, rng: np.random.Generator) -> None:
    """A member whose size is below zero, in the base-256 form."""
    header = bytearray(tarfile.TarInfo(_TABLE).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    archive.write_bytes(gzip.compress(bytes(header) + bytes(2 * tarfile.BLOCKSIZE)))


def _long_header(release: Path, archive: Path, rng: np.random.Generator) -> None:
    """A name of half a gigabyte, in a header that a reader must keep whole."""
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 29
    name = gzip.compress(b"a" * _BLOCK) * ((1 << 29) // _BLOCK)
    archive.write_bytes(gzip.compress(member.tobuf(tarfile.GNU_FORMAT)) + name)


def _link(kind: bytes, target: str) -> Making:
    return _member(_TABLE, type=kind, linkname=target)


_CASES: list[tuple[str, Making]] = [
    ("gigabytes of zeros in xz", _bomb(lzma.compress)),
    ("gigabytes of zeros in gzip", _bomb(gzip.compress)),
    ("gigabytes of zeros in bzip2", _bomb(bz2.compress)),
    ("gigabytes of zeros in a zip", _zip_bomb),
    ("a zip that says one byte", _lying),
    ("a zip of members that overlap", _overlapping),
    ("two hundred thousand files", _many),
    ("an archive in an archive", _nested),
    ("a table twice", _repeated_table),
    ("something behind its end", _trailing),
    ("a size below zero", _negative),
    ("a name of half a gigabyte", _long_header),
    ("a table is a link out", _link(tarfile.SYMTYPE, "/etc/passwd")),
    ("a table is a hard link", _link(tarfile.LNKTYPE, "/etc/passwd")),
    ("a table is a device", _link(tarfile.CHRTYPE, "")),
    ("a table is a pipe", _link(tarfile.FIFOTYPE, "")),
    ("a table is a folder", _link(tarfile.DIRTYPE, "")),
    ("a conversation named by a very long number", _member(f"dataset/user_behavior/w/{'9' * 300}/rel_mouse.csv", b"x")),
    ("a worker whose name steers terminals", _member("dataset/user_behavior/\x1b[2J/1/rel_mouse.csv", b"x")),
]
