"""Folders that live beside the package in the repository and inside it in a wheel (see `pyproject.toml`)."""

from pathlib import Path

_PACKAGE = Path(__file__).parent


def shipped_folder(name: str) -> Path:
    """`training` or `dataset_card`: the repository's folder, or the copy that travels with the wheel."""
    in_wheel = _PACKAGE / f"_{name}"
    return in_wheel if in_wheel.is_dir() else _PACKAGE.parent / name
