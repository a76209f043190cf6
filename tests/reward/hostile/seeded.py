"""Model folders made hostile by a seed: each kind in places, of sizes and by names that the seed draws."""

import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np

from ifllm_hub.reward.model.flat_forest import FOREST_FILE
from ifllm_hub.reward.model.persistence import CONFIG_FILE, MODEL_FILE
from tests.reward.hostile import ALL, ESTIMATOR, FLAT, Spoiling, configure, put
from tests.reward.hostile.archives import array_name, members, packed

# Moves the cursor and colors what follows, ends a line that is printed anew, turns a line of text round.
_ESCAPES = ("\x1b[2J\x1b[31m", "\r\x1b[K", "\u202egnissim", "\x9b31m", "\x00")

Node = dict[str, Any]


def seeded(seed: int, forest: bytes, estimator: bytes) -> Iterator[tuple[str, tuple[str, ...], Spoiling]]:
    rng = np.random.default_rng(seed)
    for name, content in (*_graphs(rng, estimator), *_attributes(rng, estimator), *_zips(rng, estimator)):
        yield f"{name}, seed {seed}", ESTIMATOR, put(MODEL_FILE, content)
    for name, content in _headers(rng, forest):
        yield f"{name}, seed {seed}", FLAT, put(FOREST_FILE, content)
    for name, spoil in _configs(rng):
        yield f"{name}, seed {seed}", ALL, spoil


class _Nodes:
    """Nodes of skops under numbers that nothing else has."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.last = 10**17 + int(rng.integers(10**9))

    def node(self, loader: str, kind: str, **more: Any) -> Node:
        self.last += 1
        module, _, name = kind.rpartition(".")
        return {"__class__": name, "__module__": module, "__loader__": loader, "__id__": self.last, **more}

    def text(self, value: Any) -> Node:
        return self.node("JsonNode", "builtins.str", content=json.dumps(value), is_json=True)

    def many(self, content: list[Node], kind: str = "list") -> Node:
        return self.node(f"{kind.capitalize()}Node", f"builtins.{kind}", content=content)

    def dictionary(self, content: dict[str, Node]) -> Node:
        types = self.many([self.node("TypeNode", "builtins.str") for _ in content])
        return self.node("DictNode", "builtins.dict", content=content, key_types=types)


def _forest(schema: Any) -> Node:
    return schema["content"]["content"]["forest_"]["content"]["content"]


def _put(name: str, value: Node, schema: Any) -> None:
    _forest(schema)[name] = value


def _packed(content: bytes, schema: Any, more: dict[str, bytes] | None = None) -> bytes:
    return packed(content, {"schema.json": json.dumps(schema).encode()}, more)


def _graphs(rng: np.random.Generator, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Small graphs that are endless or enormous to walk."""
    sound = json.loads(members(content)["schema.json"])
    nodes = _Nodes(rng)

    def case(change: Callable[[Any], Any]) -> bytes:
        schema = deepcopy(sound)
        change(schema)
        return _packed(content, schema)

    for kind in ("list", "tuple"):
        laugh = nodes.many([], kind)
        depth = int(rng.integers(30, 60))
        for _ in range(depth):
            again = {**laugh, "content": []}
            laugh = nodes.many([laugh, again], kind)
        place = str(rng.choice(["verbose", "estimator_params", "monotonic_cst", "laughs"]))
        yield f"{kind}s shared {depth} deep in {place}", case(partial(_put, place, laugh))
    circle = nodes.many([])
    circle["content"] = [{**circle, "content": []}] * int(rng.integers(1, 4))
    yield "a list in itself", case(lambda schema: _forest(schema).update(verbose=circle))
    yield (
        "the model in itself",
        case(lambda schema: _forest(schema).update(verbose={**nodes.text(0), "__id__": schema["__id__"]})),
    )
    count = int(rng.integers(2_000, 4_000))

    def one_tree(schema: Any) -> None:
        trees = _forest(schema)["estimators_"]["content"]
        trees.extend([{**trees[0], "content": trees[1]["content"]}] * 3)

    yield "one tree several times", case(one_tree)
    thin = {key: value for key, value in sound.items() if key in ("__class__", "__module__", "__loader__")}
    cached = [{**thin, "__loader__": "CachedNode", "__id__": sound["__id__"]}] * count
    yield (
        f"the model {count} times by its number",
        case(lambda schema: _forest(schema)["estimators_"].update(content=cached)),
    )
    for number in (0, -int(rng.integers(1, 99)), 1.5, "1", None, True, [1]):
        yield f"a node numbered {number}", case(lambda schema, n=number: _forest(schema)["verbose"].update(__id__=n))
    deep = nodes.text(0)
    for _ in range(int(rng.integers(100, 300))):
        deep = nodes.many([deep])
    yield "lists in lists", case(lambda schema: _forest(schema).update(verbose=deep))


def _attributes(rng: np.random.Generator, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Attributes that no model has, and values that none of them has."""
    sound = json.loads(members(content)["schema.json"])
    nodes = _Nodes(rng)
    tree = int(rng.integers(3))
    places = {
        "the model": lambda schema: schema,
        "the forest": lambda schema: schema["content"]["content"]["forest_"],
        "a tree": lambda schema: _forest(schema)["estimators_"]["content"][tree],
        "the template": lambda schema: _forest(schema)["estimator"],
        "the nodes": lambda schema: _forest(schema)["estimators_"]["content"][tree]["content"]["content"]["tree_"],
    }

    def with_attribute(place: str, name: str, value: Node, more: dict[str, bytes] | None = None) -> bytes:
        schema = deepcopy(sound)
        state = places[place](schema)["content"]
        if name not in state["content"]:
            state["key_types"]["content"].append(nodes.node("TypeNode", "builtins.str"))
        state["content"][name] = value
        return _packed(content, schema, more)

    for name in ("__del__", "__class__", "__dict__", "__setstate__", "fit", "n_jobs ", "", "x" * 10_000, _ESCAPES[0]):
        place = str(rng.choice(list(places)))
        yield f"{name[:9]!a} of {place}", with_attribute(place, name, nodes.text("print(1)"))
    big = io.BytesIO()
    np.save(big, np.zeros(int(rng.integers(1_000_000, 2_000_000)) // 8))
    array = nodes.node("NdArrayNode", "numpy.ndarray", type="numpy", file="7.npy")
    yield (
        "a large array for the number of threads",
        with_attribute("the forest", "n_jobs", array, {"7.npy": big.getvalue()}),
    )
    yield "a large array that nothing uses", _packed(content, sound, {"7.npy": big.getvalue()})
    text = json.dumps("x" * int(rng.integers(100_000, 300_000)))
    values = {
        "bytearray": nodes.node("BytearrayNode", "builtins.bytearray", file="7.npy"),
        "bytes": nodes.node("BytesNode", "builtins.bytes", file="7.npy"),
        "slice": nodes.node("SliceNode", "builtins.slice", content={"start": 0, "stop": 10**9, "step": None}),
        "set": nodes.node("SetNode", "builtins.set", content=[nodes.text(1)]),
        "pipeline": nodes.node("ObjectNode", "sklearn.pipeline.Pipeline", content=nodes.dictionary({})),
        "dictionary": nodes.dictionary({"x": nodes.text(1)}),
        "generator": nodes.node("RandomGeneratorNode", "numpy.random.Generator", content={}),
        "masked array": nodes.node("MaskedArrayNode", "numpy.ma.MaskedArray", content={"data": array, "mask": array}),
        "array of objects": nodes.node("NdArrayNode", "numpy.ndarray", type="json", content=[], shape=nodes.many([])),
        "array of another class": nodes.node("NdArrayNode", "numpy.timedelta64", type="numpy", file="7.npy"),
        "long text": nodes.node("JsonNode", "builtins.str", content=text, is_json=True),
        "list as a text": nodes.text([1] * 20),
        "nested text": nodes.node("JsonNode", "builtins.str", content="[" * 90, is_json=True),
        "number of many digits": nodes.node("JsonNode", "builtins.str", content="9" * 5_000, is_json=True),
        "text that is no JSON": nodes.node("JsonNode", "builtins.str", content="print(1)", is_json=False),
        "text that is told otherwise": nodes.node("JsonNode", "builtins.str", content='"x"', is_json="no"),
    }
    for name, value in values.items():
        place, attribute = str(rng.choice(list(places)[:3])), str(rng.choice(["random_state", "max_depth"]))
        more = {"7.npy": big.getvalue()} if "7.npy" in json.dumps(value) else None
        yield f"{name} for {attribute} of {place}", with_attribute(place, attribute, value, more)
    for escape in _ESCAPES:
        version = nodes.text(f"1.{escape}")
        yield f"{escape!a} for a version", with_attribute("the forest", "_sklearn_version", version)
    schema = deepcopy(sound)
    _forest(schema)["estimator"]["content"]["content"]["tree_"] = _forest(schema)["estimators_"]["content"][0][
        "content"
    ]["content"]["tree_"]
    yield "a template that is a tree", _packed(content, schema)


def _zips(rng: np.random.Generator, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Archives of many files, of files of one name, and JSON that two readers take for two things."""
    count = int(rng.integers(20_000, 30_000))
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<HHHHHLL", 5, 0, 0, 0, 0, 0, 0) + b"1.npy"
    listing = entry * count
    end = b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, count % 2**16, count % 2**16, len(listing), 0, 0)
    yield f"an archive of {count} files", listing + end
    schema = members(content)["schema.json"]
    for name, again in (("schema.json", schema), (array_name(content), b"\x93NUMPY")):
        doubled = io.BytesIO(packed(content, {}))
        with zipfile.ZipFile(doubled, "a") as archive:
            archive.fp.seek(0, 2)
            archive.NameToInfo.clear()
            archive.writestr(name, again)
        yield f"{name[-5:]} twice", doubled.getvalue()
    keys = ["__class__", "__module__", "__loader__", "content", "__id__"]
    key = str(rng.choice(keys)).encode()
    twice = re.sub(rb'"' + key + rb'"', b'"' + key + b'": null, "' + key + b'"', schema, count=1)
    yield f"{key.decode()} twice in a node", packed(content, {"schema.json": twice})
    name = array_name(content)
    fields = ", ".join(f"('f{field}', '<f8')" for field in range(int(rng.integers(300, 400))))
    for kind, head in {
        "of many fields": f"{{'descr': [{fields}], 'fortran_order': False, 'shape': (1,), }}",
        "of nothing without end": "{'descr': '|V0', 'fortran_order': False, 'shape': (9223372036854775807,), }",
        "of texts": "{'descr': '<U10000000', 'fortran_order': False, 'shape': (1,), }",
        "of many dimensions": f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({'1, ' * 70}), }}",
    }.items():
        yield (
            f"array {kind}",
            packed(content, {name: b"\x93NUMPY\x02\x00" + struct.pack("<I", len(head)) + head.encode()}),
        )


def _headers(rng: np.random.Generator, content: bytes) -> Iterator[tuple[str, bytes]]:
    """Headers of safetensors that are huge, or that name something twice or unprintably."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length].rstrip(), content[8 + length :]

    def with_header(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text + data

    size = int(rng.integers(1_000_000, 2_000_000))
    yield f"a header of {size} spaces", with_header(header[:-1] + b" " * size + b"}")
    notes = {f"n{note}": "x" for note in range(int(rng.integers(10_000, 20_000)))}
    yield "a header of notes", with_header(header[:-1] + b', "__metadata__": ' + json.dumps(notes).encode() + b"}")
    name = str(rng.choice(["left", "right", "share", "weights", "slope"]))
    entry = json.dumps(json.loads(header)[name]).encode()
    yield f"{name} twice", with_header(header[:-1] + b', "' + name.encode() + b'": ' + entry + b"}")
    escape = json.dumps(str(rng.choice(_ESCAPES))).encode()
    yield f"an array named {escape.decode()}", with_header(header.replace(b'"left"', escape))
    yield f"a type named {escape.decode()}", with_header(header.replace(b'"I32"', escape, 1))


def _configs(rng: np.random.Generator) -> Iterator[tuple[str, Spoiling]]:
    """Configs that two readers take for two things, or that write on the terminal."""

    def renamed(name: str) -> Spoiling:
        return configure(lambda config: config["features"][int(rng.integers(5))].update(name=name))

    for escape in _ESCAPES:
        yield f"a feature named {escape!a}", renamed(f"mouse_{escape}")
    yield "a feature of a long name", renamed("x" * int(rng.integers(1_000, 100_000)))
    yield "a feature that is a path", renamed("../../etc/passwd")
    yield "a format that writes on the terminal", configure(lambda config: config.update(format=_ESCAPES[0]))
    yield "a slope that writes on the terminal", configure(lambda config: config.update(slope=_ESCAPES[0]))

    def twice(key: str) -> Spoiling:
        def spoil(folder: Any) -> None:
            text = (folder / CONFIG_FILE).read_text()
            (folder / CONFIG_FILE).write_text(text.replace(f'"{key}":', f'"{key}": 1, "{key}":', 1))

        return spoil

    for key in ("sha256", "features", "slope", "format", "name", FOREST_FILE):
        yield f"{key} twice", twice(key)
    yield (
        "the mark of another encoding",
        lambda folder: (folder / CONFIG_FILE).write_bytes(b"\xff\xfe" + (folder / CONFIG_FILE).read_bytes()) and None,
    )
