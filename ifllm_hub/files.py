"""Files: written beside the target and renamed into place, so none is ever half-written, and read by literal name."""

import io
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ifllm_hub.errors import IfllmError

if TYPE_CHECKING:
    import polars as pl

_PACKAGE = Path(__file__).parent
# How an address such as s3://bucket begins, once it is taken for a path.
_ADDRESSES = {"s3:", "hf:", "gs:", "az:", "abfs:", "http:", "https:"}


@contextmanager
def replacing_folder(target: Path, made_by_us: str, private: bool = False, resumed: bool = False) -> Iterator[Path]:
    """A fresh folder beside `target` that takes its place if the block succeeds and is deleted if it fails.

    Args:
        made_by_us: a file that marks a folder as ours; an existing non-empty target without it is not touched.
        private: nobody but the owner may read the folder, or any file in it, at any moment.
        resumed: the folder is `unfinished(target)`, stays if the block fails, and is found as it was the next time; one
            process at a time may do this.

    Raises:
        IfllmError: the target is no folder, or not one of ours, or its parent cannot be written.
    """
    if _ADDRESSES.intersection(target.parts):
        raise IfllmError(f"{target}: is an address, not a folder. Choose a folder; what is in it can be copied there.")
    target = target.resolve() if target.is_symlink() else target  # the folder is replaced, not the link to it
    if target.exists() and not (target / made_by_us).exists() and (not target.is_dir() or any(target.iterdir())):
        raise IfllmError(f"{target}: exists and was not made by this command (no {made_by_us}). Choose another folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = unfinished(target) if resumed else target.parent / f".{target.name}-{secrets.token_hex(4)}"
        # Unless private, it gets the user's usual permissions, not the 0700 of `tempfile`.
        partial.mkdir(mode=0o700 if private else 0o777, exist_ok=resumed)
    except OSError as error:
        raise IfllmError(
            f"{target}: cannot be written ({error.strerror}). Choose a folder you may write to."
        ) from error
    try:
        yield partial
        if private:
            for path in partial.rglob("*"):
                path.chmod(0o700 if path.is_dir() else 0o600)
        _take_place(partial, target)
    except OSError as error:
        raise IfllmError(f"{target}: cannot be written ({error.strerror or error}).") from error
    finally:
        if not resumed:
            shutil.rmtree(partial, ignore_errors=True)


def unfinished(target: Path) -> Path:
    """Where `replacing_folder` keeps what it resumes."""
    return target.with_name(f".{target.name}.unfinished")


def clear_leftovers(target: Path, resumed: bool = False) -> None:
    """Delete what killed runs of `replacing_folder` left beside a folder. Nobody else may write it meanwhile.

    Where a run was killed as it put a new folder in the place of the old one, the old one takes its place again.

    Args:
        resumed: keep `unfinished(target)`.
    """
    left = re.compile(rf"\.{re.escape(target.name)}(-[0-9a-f]{{8}}|\.unfinished)(\.old)?")
    for path in target.parent.iterdir() if target.parent.is_dir() else ():
        if not left.fullmatch(path.name) or not path.is_dir() or (resumed and path == unfinished(target)):
            continue
        if path.suffix == ".old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A second name for a file, which is replaced and never changed in place; where the disk has none, a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _take_place(partial: Path, target: Path) -> None:
    old = partial.with_name(f"{partial.name}.old")
    if target.exists():
        target.rename(old)
    try:
        partial.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder for results unless it exists.

    Raises:
        IfllmError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IfllmError(
            f"{folder}: cannot be written ({error.strerror}). Choose a folder you may write to."
        ) from error


def write_atomically(path: Path, content: str | bytes, private: bool = False) -> None:
    """Write a file beside its final place, then rename it.

    Args:
        private: nobody but the owner may read it, at any moment.

    Raises:
        IfllmError: the folder cannot be written, or the disk is full.
    """
    with writing_atomically(path, private) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_atomically(path: Path, private: bool = False) -> Iterator[BinaryIO]:
    """A file to write beside its final place; it is renamed if the block succeeds, and deleted if it fails.

    Raises:
        IfllmError: see `write_atomically`.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.touch(0o600 if private else 0o666)
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    except OSError as error:
        raise IfllmError(f"{path}: cannot be written ({error.strerror}).") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_parquet(path: Path, frame: "pl.DataFrame") -> None:
    """Write a frame as one Parquet file, atomically.

    Raises:
        IfllmError: see `write_atomically`.
    """
    content = io.BytesIO()
    frame.write_parquet(content)
    write_atomically(path, content.getvalue())


def read_parquet(path: Path, columns: list[str] | None = None) -> "pl.DataFrame":
    """Read one Parquet file, whatever its name: by default, Polars treats `[`, `*` and `?` in a path as a pattern."""
    import polars as pl

    return pl.read_parquet(path, columns=columns, glob=False)


def read_json(path: Path) -> Any:
    """Read a JSON file that one of our commands wrote.

    Raises:
        IfllmError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IfllmError(f"{path}: missing or damaged ({error}). Run the command that writes it again.") from error


def claim_folder(file: Path, settings: dict[str, Any], holds: str) -> None:
    """Record in a file what its folder belongs to, and make the folder; or refuse one that belongs to something else.

    Args:
        holds: what stands in such a folder, for the message.

    Raises:
        IfllmError: the file has other settings or cannot be written.
    """
    now = json.loads(json.dumps(settings))
    if not file.is_file():
        make_folder(file.parent)
        write_atomically(file, json.dumps(now, indent=2) + "\n")
        return
    stored = read_json(file)
    names = [name for name in {**stored, **now} if stored.get(name) != now.get(name)]
    if names:
        changes = ", ".join(f"{name} {stored.get(name)!r} -> {now.get(name)!r}" for name in names)
        raise IfllmError(
            f"{file.parent} holds {holds} ({changes}). Choose another folder, or delete it to start again."
        )


def without_nan(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite, at any depth, becomes null."""
    if isinstance(value, dict):
        return {key: without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def shipped_folder(name: str) -> Path:
    """`training` or `dataset_card`: the repository's folder, or the copy inside the package that a wheel has."""
    in_wheel = _PACKAGE / f"_{name}"
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / name
