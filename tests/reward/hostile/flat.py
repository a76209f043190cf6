"""Hostile `forest.safetensors` files."""

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from safetensors.numpy import save

from ifllm_hub.reward.model.flat_forest import FOREST_FILE
from tests.reward.hostile import LARGEST, LOWEST, WIDTH, Spoiling, fit


def hostile_arrays(arrays: dict[str, np.ndarray]) -> Iterator[tuple[str, Spoiling]]:
    """Arrays of the right form that lead out of themselves, and arrays of another form."""

    def case(name: str, **changed: np.ndarray | None) -> tuple[str, Spoiling]:
        kept = {key: value for key, value in {**arrays, **changed}.items() if value is not None}
        return name, lambda folder: fit(folder, FOREST_FILE, save(kept))

    def at(array: str, index: int, value: float) -> np.ndarray:
        changed = arrays[array].copy()
        changed[index] = value
        return changed

    start, left = arrays["start"], arrays["left"]
    inner = [int(node) for node in np.flatnonzero(left != -1)]
    leaf = int(np.flatnonzero(left == -1)[0])
    sizes = np.diff(start)
    for tree in range(3):
        root = int(start[tree])
        for side in ("left", "right"):
            for child in (int(sizes[tree]), LARGEST, LOWEST, -2, 0):
                yield case(f"{side} child {child} of the root of tree {tree}", **{side: at(side, root, child)})
        yield case(f"one child in tree {tree}", left=at("left", root, -1))
        yield case(f"shared child in tree {tree}", right=at("right", root, int(left[root])))
    yield case("own child", left=at("left", inner[1], inner[1]))
    yield case("cycle through the parent", left=at("left", inner[1], 0))
    yield case("leaf with one child", left=at("left", leaf, leaf + 1))
    yield case("leaf with children", left=at("left", leaf, leaf + 1), right=at("right", leaf, leaf + 2))
    for feature in (WIDTH, LARGEST, -1, -2, LOWEST):
        yield case(f"feature {feature}", feature=at("feature", inner[2], feature))
    for value in (np.nan, np.inf, -np.inf):
        yield case(f"threshold {value}", threshold=at("threshold", inner[3], value))
    for value in (np.nan, np.inf, -0.1, 1.1):
        yield case(f"share {value}", share=at("share", leaf, value))
    for slope in (np.nan, np.inf, -1.0, 11.0, 0.123):
        yield case(f"slope {slope}", slope=np.array(slope))
    starts = ((0, 1), (0, -1), (1, 0), (1, LARGEST), (1, LOWEST), (2, 1), (3, LARGEST), (3, 0), (-1, len(left) - 1))
    for index, value in starts:
        yield case(f"start {value} at {index}", start=at("start", index, value))
    for width in (0, 1, WIDTH - 1, WIDTH + 1, 10**6):
        yield case(f"{width} weights", weights=np.ones(width))
    for weight in (np.nan, np.inf, -np.inf, -1.0, 1e200):
        yield case(f"weight {weight}", weights=at("weights", 0, weight))
    for name, array in arrays.items():
        other = array.astype("f4" if array.dtype.kind == "f" else "i8")
        yield case(f"{name} of another type", **{name: other})
        yield case(f"{name} of another shape", **{name: array[None]})
        yield case(f"no {name}", **{name: None})
        if array.ndim:
            yield case(f"{name} cut short", **{name: array[:-1]})
            yield case(f"empty {name}", **{name: array[:0]})
    yield case("an array too many", extra=np.zeros(3))
    yield case("only empty arrays", **{name: array[:0] for name, array in arrays.items() if array.ndim})
    many = 200_000
    one_leaf = {"left": np.full(many, -1, "i4"), "right": np.full(many, -1, "i4"), "feature": np.full(many, -2, "i4")}
    one_leaf |= {"threshold": np.zeros(many), "share": np.full(many, 0.5), "start": np.arange(many + 1, dtype="i4")}
    yield case("so many trees that the tables fill the memory", **one_leaf)
    stumps = 9_999
    three = {"left": np.tile([1, -1, -1], stumps).astype("i4"), "right": np.tile([2, -1, -1], stumps).astype("i4")}
    three |= {"feature": np.zeros(3 * stumps, "i4"), "threshold": np.arange(3.0 * stumps)}
    three |= {"share": np.full(3 * stumps, 0.5), "start": 3 * np.arange(stumps + 1, dtype="i4")}
    yield case("so many thresholds that the tables fill the memory", **three)


def hostile_safetensors(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Files that are no safetensors, or whose header lies."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]

    def with_header(changed: Any) -> bytes:
        text = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
        return struct.pack("<Q", len(text)) + text + data

    for share in (0, 1, 4, 8, 9, 60, length, length + 8, length + 9, len(content) // 2, len(content) - 8, -1):
        yield f"cut at {share}", content[:share]
    for size in (0, 1, length - 1, length + 1, 10**8, 10**8 + 1, 2**31, 2**63, 2**64 - 1):
        yield f"header of {size} bytes", struct.pack("<Q", size) + content[8:]
    yield "bytes behind the end", content + b"\0" * 8
    yield "nothing but zeros", bytes(4_096)
    yield "header of random bytes", with_header(np.random.default_rng(0).bytes(500))
    yield "header nested without end", with_header(b"[" * 100_000)
    yield "nested objects without end", with_header(b'{"a":' * 100_000)
    yield "header of another kind", with_header([])
    yield "header that is a number", with_header(7)
    yield "metadata of another kind", with_header({**header, "__metadata__": {"format": 7}})
    entry = header["left"]
    size = entry["data_offsets"][1] - entry["data_offsets"][0]
    for name, changed in {
        "shape beyond 64 bits": {"shape": [2**40, 2**40]},
        "negative shape": {"shape": [-1]},
        "huge shape": {"shape": [2**33]},
        "shape of fractions": {"shape": [0.5]},
        "unknown type": {"dtype": "PICKLE"},
        "type that numpy lacks": {"dtype": "BF16", "shape": [size // 2]},
        "another type that numpy lacks": {"dtype": "F8_E4M3", "shape": [size]},
        "offsets that overlap": {"data_offsets": header["share"]["data_offsets"]},
        "offsets beyond the end": {"data_offsets": [2**40, 2**40 + size]},
        "offsets backwards": {"data_offsets": entry["data_offsets"][::-1]},
        "negative offsets": {"data_offsets": [-size, 0]},
        "no offsets": {"data_offsets": []},
    }.items():
        yield name, with_header({**header, "left": {**entry, **changed}})
    yield "a multitude of arrays", with_header({**header, **{f"x{n}": {**entry, "shape": [0]} for n in range(20_000)}})
