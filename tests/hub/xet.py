"""Xet uploads: `hf_xet` writes to a content store in a folder, and this reads what it wrote."""

import time
from pathlib import Path

# The layout of a shard, from xet-core's specification: a header, then blocks of 48 bytes.
_HEADER = 48
_BLOCK = 48
_HAS_VERIFICATION, _HAS_SHA256 = 1 << 31, 1 << 30


class XetStorage:
    """A CAS in a local folder (`hf_xet` accepts `local://` as its address), shared by client and server."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.hashes: dict[str, str] = {}  # sha256 -> Xet hash, of what was uploaded

    def connection(self) -> dict[str, str | int]:
        """The answer to a token request, as headers and as JSON."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return {"casUrl": f"local://{self._folder}", "accessToken": "xet", "exp": int(time.time()) + 3600}

    def take(self, sha256: str) -> dict[str, bytes]:
        """sha256 -> content of a file that a client uploaded by Xet; empty if none did."""
        for shard in self._folder.rglob("*.mdb"):
            for found, (xet_hash, size) in _files_of_shard(shard.read_bytes()).items():
                if found == sha256:
                    self.hashes[sha256] = xet_hash
                    return {sha256: self._read(xet_hash, size)}
        return {}

    def _read(self, xet_hash: str, size: int) -> bytes:
        from hf_xet import XetFileInfo, XetSession

        out = self._folder / "out"
        with XetSession().new_file_download_group(endpoint=f"local://{self._folder}") as group:
            group.start_download_file(XetFileInfo(xet_hash, size), str(out))
        return out.read_bytes()


def _files_of_shard(shard: bytes) -> dict[str, tuple[str, int]]:
    """sha256 -> (Xet hash, size in bytes) of every file in a shard."""
    files = {}
    at = _HEADER
    while shard[at : at + 32] != b"\xff" * 32:
        hash_, flags = shard[at : at + 32], int.from_bytes(shard[at + 32 : at + 36], "little")
        segments = int.from_bytes(shard[at + 36 : at + 40], "little")
        # A segment: xorb hash (32), flags (4), unpacked bytes (4), first and last chunk (8).
        starts = range(at + _BLOCK, at + _BLOCK * (1 + segments), _BLOCK)
        size = sum(int.from_bytes(shard[start + 36 : start + 40], "little") for start in starts)
        at += _BLOCK * (1 + segments * (2 if flags & _HAS_VERIFICATION else 1))
        if flags & _HAS_SHA256:
            files[_hex(shard[at : at + 32])] = (_hex(hash_), size)
            at += _BLOCK
    return files


def _hex(hash_: bytes) -> str:
    """Hashes are stored as four little-endian 64-bit words."""
    return "".join(hash_[word : word + 8][::-1].hex() for word in range(0, 32, 8))
