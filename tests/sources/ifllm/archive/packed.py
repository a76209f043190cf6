"""Releases packed in every way, and what of them is where afterwards."""

import io
import lzma
import tarfile
import zipfile
from hashlib import sha256
from pathlib import Path

import pyarrow as pa

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


def left_behind(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def digest_by_hand(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = sorted(f"{sha256(path.read_bytes()).hexdigest()}  {path.relative_to(root).as_posix()}" for path in files)
    return sha256("\n".join(lines).encode()).hexdigest()


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
