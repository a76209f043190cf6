"""Folders on this machine, or at an address that fsspec knows (`s3://bucket/folder`), and whole files in them.

Reading works from anywhere. To write, a place needs files that appear whole: a disk, S3, a bucket of the Hub
(`hf://buckets/...`). A dataset repo of the Hub is none: every file would be a commit.
"""

import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from ifllm_hub.errors import IfllmError, first_line

_STAGED, _LOCK = ".staged-", ".lock"
# What tells one content of a file from another, the first of these: S3, the Hub (large files, others), disks, others.
_MARKS = ("ETag", "xet_hash", "blob_id", "mtime", "LastModified", "last_modified", "updated", "created")


def resolved(place: str | Path) -> str:
    """A place by a name that holds in every process: an address, or an absolute path."""
    return str(place) if _is_remote(str(place)) else str(Path(place).resolve())


def at(folder: str, *names: str) -> str:
    """The place of a file or folder in a folder."""
    return "/".join((folder.rstrip("/"), *names))


def files_in(folder: str, suffix: str = "") -> dict[str, str]:
    """All files in a folder and below it: the path of each, and a mark that changes with its content.

    Raises:
        IfllmError: the place cannot be reached.
    """
    with _reached(folder) as (system, path):
        root = path.rstrip("/") + "/"
        found = system.find(path, detail=True)
        return {
            name.removeprefix(root): _mark(found[name])
            for name in sorted(found)
            if name.startswith(root) and name.endswith(suffix)
        }


def mark_of(file: str) -> str | None:
    """What changes with the content of a file, as in `files_in`; None if there is no such file.

    Raises:
        IfllmError: the place cannot be reached.
    """
    with _reached(file) as (system, path):
        try:
            return _mark(system.info(path))
        except FileNotFoundError:
            return None


@contextmanager
def opened(file: str) -> Iterator[Path | BinaryIO]:
    """A file to read: its path, or a stream in which one can seek.

    Raises:
        IfllmError: the place cannot be reached, or there is no such file.
    """
    if not _is_remote(file):
        yield Path(file)
        return
    with _reached(file) as (system, path):
        try:
            stream = system.open(path, "rb")
        except FileNotFoundError as error:
            raise IfllmError(f"{file}: missing.") from error
    with stream:
        yield stream


@contextmanager
def staged(folder: str) -> Iterator[Path]:
    """A new folder of this machine, whose files take their places in `folder` once the block succeeds, each whole.

    Raises:
        IfllmError: `folder` cannot be written.
    """
    if _is_remote(folder):
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
            with _reached(folder) as (system, path):
                for file in sorted(Path(name).iterdir()):
                    system.put_file(str(file), at(path, file.name))
        return
    # Beside the targets: a rename across file systems would be a copy.
    stage = Path(folder) / f"{_STAGED}{secrets.token_hex(8)}"
    try:
        with _reached(folder):
            stage.mkdir(parents=True)
        yield stage
        with _reached(folder):
            for file in sorted(stage.iterdir()):
                file.replace(Path(folder) / file.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def read_json(file: str) -> Any:
    """A JSON file, or None if there is none, or none that can be read."""
    with _reached(file) as (system, path):
        try:
            return json.loads(system.cat_file(path))
        except (FileNotFoundError, ValueError):
            return None


def write_json(folder: str, name: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file, whole.

    Raises:
        IfllmError: see `staged`.
    """
    with staged(folder) as stage:
        (stage / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def remove(place: str) -> None:
    """Delete a file, or a folder and all in it, if it is there.

    Raises:
        IfllmError: it cannot be deleted.
    """
    with _reached(place) as (system, path), suppress(FileNotFoundError):
        system.rm(path, recursive=True)


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Nobody else writes into a folder meanwhile. What killed runs left half-written is deleted first.

    A run on this machine that is killed leaves no lock. An address holds an object `.lock`, made if there is none (on
    S3 in one step; elsewhere two runs that start at the same instant may both see none), which a killed run leaves.

    Raises:
        IfllmError: another run writes there, or the place cannot be written.
    """
    if _is_remote(folder):
        with _locked_by_object(folder):
            yield
        return
    from filelock import FileLock, Timeout

    with ExitStack() as stack:
        with _reached(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(FileLock(Path(folder) / _LOCK, timeout=0))
            except Timeout as error:
                raise IfllmError(f"{folder}: another run is writing there. Wait until it has ended.") from error
        for stage in Path(folder).rglob(f"{_STAGED}*"):
            shutil.rmtree(stage, ignore_errors=True)
        yield


@contextmanager
def _locked_by_object(folder: str) -> Iterator[None]:
    if folder.startswith("hf://") and not folder.startswith("hf://buckets/"):
        raise IfllmError(
            f"{folder}: every file would be a commit of this repo. Write to a folder, to S3 or to hf://buckets/..., "
            "and publish a dataset with `ifllm publish`."
        )
    lock = at(folder, _LOCK)
    who = f"process {os.getpid()} of {socket.gethostname()}"
    with _reached(folder) as (system, path):
        key = at(path, _LOCK)
        try:
            system.pipe_file(key, who.encode(), mode="create")
        except OSError as error:
            if not system.exists(key):
                raise
            other = system.cat_file(key).decode(errors="replace")
            raise IfllmError(
                f"{folder}: another run is writing there ({other}). Wait until it has ended; if it was killed, delete "
                f"{lock} and run this again."
            ) from error
    try:
        yield
    finally:
        remove(lock)


def _is_remote(place: str) -> bool:
    return "://" in place


def _mark(info: Mapping[str, Any]) -> str:
    known = (str(info[name]) for name in _MARKS if info.get(name) is not None)
    return f"{info['size']} {next(known, '')}"


@contextmanager
def _reached(place: str) -> Iterator[tuple[Any, str]]:
    """The file system of a place and the path in it; what it raises becomes a clear error."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(place)
        system.invalidate_cache()  # others write there too
        yield system, path
    except IfllmError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise IfllmError(
            f"{place}: cannot be used ({type(error).__name__}: {first_line(error)}). Check the address, what you may "
            "do there, and that its package is installed (s3://: pip install s3fs)."
        ) from error
