"""Hostile `config.json` files, digests that do not fit, and what is no file in the place of a file."""

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ifllm_hub.reward.model.flat_forest import FOREST_FILE
from ifllm_hub.reward.model.persistence import CONFIG_FILE, MODEL_FILE
from ifllm_hub.reward.protocol.pairs import FEATURES
from tests.reward.hostile import ALL, ESTIMATOR, FLAT, WIDTH, Armed, Spoiling, configure


def hostile_configs() -> Iterator[tuple[str, tuple[str, ...], Spoiling]]:
    """Configs that are no config, or not that of these weights."""

    def text(content: bytes) -> Spoiling:
        return lambda folder: (folder / CONFIG_FILE).write_bytes(content) and None

    texts = {
        "empty": b"",
        "cut": b'{"format": 1, "features": [',
        "nothing": b"null",
        "list": b"[]",
        "text": b'"config"',
        "number": b"1",
        "empty object": b"{}",
        "not UTF-8": b"\xff\xff\xff",
        "lists nested without end": b"[" * 400_000,
        "objects nested without end": b'{"a":' * 150_000,
        "a number of many digits": b'{"format": ' + b"1" * 10_000 + b"}",
        "larger than any": b'{"format": 1, "x": "' + b"x" * 1_000_000 + b'"}',
        "pickle": pickle.dumps(Armed()),
        "two documents": b"{}{}",
    }
    yield from ((name, ALL, text(content)) for name, content in texts.items())
    names = [{"name": name, "unit": "x"} for name in FEATURES]
    changes: dict[str, dict[str, Any]] = {
        "another format": {"format": 2},
        "format of another kind": {"format": "1"},
        "format that is true": {"format": True},
        "no format": {"format": None},
        "format that is no number": {"format": float("nan")},
        "no features": {"features": []},
        "features that are none": {"features": None},
        "features that are texts": {"features": list(FEATURES)},
        "features without names": {"features": [{"unit": "x"}] * WIDTH},
        "features with numbers for names": {"features": [{"name": number} for number in range(WIDTH)]},
        "features of the same name": {"features": [{"name": "x"}] * WIDTH},
        "a feature less": {"features": names[1:]},
        "a feature more": {"features": [*names, {"name": "more"}]},
        "a multitude of features": {"features": [{"name": f"x{number}"} for number in range(40_000)]},
        "digests that are none": {"sha256": None},
        "digests that are a text": {"sha256": "abc"},
        "no digests": {"sha256": {}},
        "digests that are lists": {"sha256": {FOREST_FILE: [], MODEL_FILE: {}}},
        "digests that are numbers": {"sha256": {FOREST_FILE: 0, MODEL_FILE: 0}},
    }
    for slope in (0.123, -1.0, float("nan"), float("inf"), 1e308, 10**300, "steep", None, [], {}, True):
        changes[f"slope {str(slope)[:12]}"] = {"slope": slope}
    for name, change in changes.items():
        yield name, ALL, configure(lambda config, change=change: config.update(change))
    yield "no slope", ALL, configure(lambda config: config.pop("slope"))
    upper = configure(lambda config: config.update(sha256={k: v.upper() for k, v in config["sha256"].items()}))
    yield "digests in capitals", ALL, upper
    swap = configure(
        lambda config: config.update(
            sha256={FOREST_FILE: config["sha256"][MODEL_FILE], MODEL_FILE: config["sha256"][FOREST_FILE]}
        )
    )
    yield "digests of each other", ALL, swap


def hostile_files() -> Iterator[tuple[str, tuple[str, ...], Spoiling]]:
    """What is no file, in the place of a file."""

    def link(target: str) -> Spoiling:
        return lambda path: path.symlink_to(target)

    def sparse(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(10**10)

    kinds: dict[str, Spoiling] = {
        "no file": lambda path: None,
        "folder": Path.mkdir,
        "pipe": os.mkfifo,
        "link to nothing": link("nowhere"),
        "link to itself": lambda path: path.symlink_to(path.name),
        "link to zeros without end": link("/dev/zero"),
        "link to random bytes without end": link("/dev/urandom"),
        "link to a file of the system": link("/etc/passwd"),
        "ten billion bytes": sparse,
        "link to its folder": link("."),
    }
    for file, loaders in ((CONFIG_FILE, ALL), (FOREST_FILE, FLAT), (MODEL_FILE, ESTIMATOR)):
        for kind, make in kinds.items():

            def spoil(folder: Path, file: str = file, make: Spoiling = make) -> None:
                (folder / file).unlink()
                make(folder / file)

            yield f"{kind} for {file}", loaders, spoil


def stale_digests(forest: bytes, estimator: bytes) -> Iterator[tuple[str, tuple[str, ...], Spoiling]]:
    """One bit anywhere, under the digest of before."""
    rng = np.random.default_rng(0)
    for file, content, loaders in ((FOREST_FILE, forest, FLAT), (MODEL_FILE, estimator, ESTIMATOR)):
        for bit in sorted(int(bit) for bit in rng.choice(8 * len(content), size=12, replace=False)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit} of {file}", loaders, lambda folder, f=file, c=bytes(flipped): (folder / f).write_bytes(c)
