"""Hostile `reward_model.skops` files made by hand: what skops would not write, and zip archives that lie."""

import io
import itertools
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import skops.io

from tests.reward.hostile import CANARY, LARGEST, WIDTH, Armed, ArmedState


def hostile_schemas(content: bytes) -> Iterator[tuple[str, bytes]]:
    """skops files that name what is not to be made, called or read."""
    schema = json.loads(members(content)["schema.json"])

    def instead_of_verbose(node: Any) -> bytes:
        changed = deepcopy(schema)
        changed["content"]["content"]["forest_"]["content"]["content"]["verbose"] = node
        return packed(content, {"schema.json": json.dumps(changed).encode()})

    numbers = itertools.count(1)  # skops takes a node of a known number for one that it has made already

    def loader(kind: str, module: str, name: str, **more: Any) -> dict[str, Any]:
        return {"__loader__": kind, "__module__": module, "__class__": name, "__id__": next(numbers), **more}

    def text(value: Any) -> dict[str, Any]:
        return loader("JsonNode", "builtins", "str", content=json.dumps(value), is_json=True)

    command = f'touch "${CANARY}"'
    words = loader("TupleNode", "builtins", "tuple", content=[text(command)])
    nothing = loader(
        "DictNode", "builtins", "dict", content={}, key_types=loader("ListNode", "builtins", "list", content=[])
    )
    system = loader("FunctionNode", "os", "system")
    parts = {"func": system, "args": words, "kwds": nothing, "namespace": text(None)}
    nodes = {
        "function": system,
        "type": loader("TypeNode", "os", "system"),
        "partial": loader("PartialNode", "functools", "partial", content=parts),
        "method": loader("MethodNode", "pathlib", "Path", content={"func": "touch", "obj": text(command)}),
        "method of a text": loader("MethodNode", "builtins", "str", content={"func": "format", "obj": text(command)}),
        "operator": loader("OperatorFuncNode", "operator", "methodcaller", attrs=words),
        "operator of another module": loader("OperatorFuncNode", "os", "system", attrs=words),
        "operator that calls": loader("OperatorFuncNode", "operator", "call", attrs=words),
        "object": loader("ObjectNode", "tests.reward.hostile", "ArmedState", content=nothing),
        "object that is a function": loader("ObjectNode", "os", "system", content=nothing),
        "tree that is a function": loader("TreeNode", "os", "system", __reduce__={"args": words}, content=nothing),
        "loss that is a function": loader("LossNode", "os", "system", __reduce__={"args": words}, content=nothing),
        "named tuple": loader("TupleNode", "os", "system", content=[text(command)]),
        "list that is a function": loader("ListNode", "os", "system", content=[text(command)]),
        "array that is a function": loader("NdArrayNode", "os", "system", type="numpy", file=array_name(content)),
        "constructor": loader("ConstructorFromReduceNode", "os", "system", content=words),
        "unknown loader": loader("PickleNode", "os", "system", content=command),
        "unknown object": loader("CachedNode", "builtins", "int", __id__=7),
        "file that is not there": loader("NdArrayNode", "numpy", "ndarray", type="numpy", file="7.npy"),
        "file outside": loader("NdArrayNode", "numpy", "ndarray", type="numpy", file="../../etc/passwd"),
        "node without end": json.loads('{"content":' * 200 + "1" + "}" * 200),
        "node that is a number": 7,
        "node that is a list": [],
        "no node": None,
    }
    for name, node in nodes.items():
        yield f"{name} node", instead_of_verbose(node)
    for protocol in (-1, 0, 1, 3, "2", None):
        changed = instead_of_verbose(system)
        older = {**json.loads(members(changed)["schema.json"]), "protocol": protocol}
        yield f"function node of protocol {protocol!r}", packed(content, {"schema.json": json.dumps(older).encode()})
    for name, spoiled in {
        "empty": b"",
        "list": b"[]",
        "null": b"null",
        "not UTF-8": b"\xff\xfe{",
        "nested without end": b"[" * 100_000,
        "objects nested without end": b'{"content":' * 100_000 + b"1" + b"}" * 100_000,
        "of empty lists": b"[" + b"[]," * 3_000_000 + b"[]]",
        "larger than any": b" " * 20_000_000 + b"{}",
    }.items():
        yield f"schema {name}", packed(content, {"schema.json": spoiled})
    estimator = skops.io.loads(content, trusted=skops.io.get_untrusted_types(data=content))
    estimator.forest_.verbose = ArmedState()
    yield "object with a state", skops.io.dumps(estimator)
    yield "pickle", pickle.dumps(Armed())
    array = io.BytesIO()
    np.save(array, np.array([Armed()], dtype=object), allow_pickle=True)
    yield "pickle in an array", packed(content, {array_name(content): array.getvalue()})
    yield "pickle for a schema", packed(content, {"schema.json": pickle.dumps(Armed())})
    for width, outputs in (
        (LARGEST, 1),
        (-1, 1),
        (0, 1),
        (2**70, 1),
        ("six", 1),
        *((WIDTH, n) for n in (LARGEST, -1, 0, 2, 1_000, 10**6)),
    ):
        changed = deepcopy(schema)
        for part in trees_of(changed):
            part["__reduce__"]["args"]["content"][::2] = text(width), text(outputs)
        yield f"tree made with {width} and {outputs}", packed(content, {"schema.json": json.dumps(changed).encode()})
    for name, classes in {
        "no classes": np.zeros(0, "i8"),
        "a billion classes": np.array([10**9]),
        "less than no classes": np.array([-2]),
        "classes beyond all": np.array([2**62]),
        "a table of classes": np.array([[2]]),
        "fractional classes": np.array([2.5]),
        "classes that are texts": np.array(["2"]),
    }.items():
        changed, buffer = deepcopy(schema), io.BytesIO()
        np.save(buffer, classes)
        for part in trees_of(changed):
            array = loader("NdArrayNode", "numpy", "ndarray", type="numpy", file="1.npy")
            part["__reduce__"]["args"]["content"][1] = array
        spoiled = {"schema.json": json.dumps(changed).encode()}
        yield f"tree made with {name}", packed(content, spoiled, {"1.npy": buffer.getvalue()})
    # scikit-learn takes a number that is too large for that of the nodes that are there.
    for count in (0, -1, -(2**62), 1, 2, 2**70, 1.5, "all", None):
        changed = deepcopy(schema)
        for part in trees_of(changed):
            part["content"]["content"]["node_count"] = text(count)
        yield f"tree of {count} nodes", packed(content, {"schema.json": json.dumps(changed).encode()})
    for field in ("node_count", "nodes", "values", "max_depth"):
        changed = deepcopy(schema)
        for part in trees_of(changed):
            part["content"]["content"][field] = text("x")
        yield f"tree whose {field} is a text", packed(content, {"schema.json": json.dumps(changed).encode()})


def hostile_archives(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Archives that are cut, lie about sizes, or hold what is not to be unpacked."""
    name = array_name(content)
    for part in range(12):
        yield f"cut at {part}/12", content[: part * len(content) // 12]
    yield "cut by a byte", content[:-1]
    for magic in (b"PK\x03\x04", b"PK\x05\x06" + bytes(18), b"not a zip", b"7z\xbc\xaf\x27\x1c"):
        yield f"only {magic[:6]!r}", magic
    for path in (
        "../evil.npy",
        "/etc/evil.npy",
        "..\\evil.npy",
        "a/../../1.npy",
        "evil.py",
        "1.npy/",
        "x\n.npy",
        "1.NPY",
    ):
        yield f"path {path!r}", packed(content, {}, {path: b"evil"})
    for kind in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED):
        yield f"bomb of kind {kind}", packed(content, {}, {"1.npy": bytes(60_000_000)}, kind)
    liar = bytearray(packed(content, {}, {"1.npy": bytes(60_000_000)}, zipfile.ZIP_BZIP2))
    at = liar.rindex(b"PK\x01\x02")
    liar[at + 24 : at + 28] = struct.pack("<I", 10)
    yield "bomb that says it is small", bytes(liar)
    yield "no schema", packed(content, {"schema.json": None})
    yield "no arrays", packed(content, {array: None for array in members(content) if array != "schema.json"})
    yield "an array less", packed(content, {name: None})
    yield "archive in an archive", packed(content, {"schema.json": content})
    huge = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    for shape in ("(1000000000000,)", "(2000000000,)", "(-1,)", "(4294967296, 4294967296)", "()"):
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        yield f"array of shape {shape}", packed(content, {name: huge + text.encode()})
    for text in (
        "__import__('os').system('true')",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "(" * 117,
    ):
        yield f"array with the header {text[:20]}", packed(content, {name: huge + text.ljust(117).encode() + b"\n"})
    for cut in (0, 5, 10, 64):
        yield f"array cut at {cut}", packed(content, {name: members(content)[name][:cut]})
    big = {"9.npy": zeros(1_000_000)}
    node = {
        "__loader__": "NdArrayNode",
        "__module__": "numpy",
        "__class__": "ndarray",
        "type": "numpy",
        "file": "9.npy",
    }
    schema = json.loads(members(content)["schema.json"])
    many = [{**node, "__id__": 10**6 + number} for number in range(3_000)]
    schema["content"]["content"]["laughs"] = {"__loader__": "ListNode", "__module__": "builtins", "__class__": "list"}
    schema["content"]["content"]["laughs"] |= {"content": many, "__id__": 5}
    yield "one array a thousand times", packed(content, {"schema.json": json.dumps(schema).encode()}, big)
    buffer = io.BytesIO(packed(content, {}))
    with zipfile.ZipFile(buffer, "a") as archive:
        for number in range(20_000):
            archive.writestr(f"x{number}", b"")
    yield "a multitude of files", buffer.getvalue()
    locked = bytearray(packed(content, {}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(signature) + offset] |= 1
    yield "a file under a password", bytes(locked)


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(
    content: bytes,
    changed: dict[str, bytes | None],
    more: dict[str, bytes] | None = None,
    kind: int = zipfile.ZIP_DEFLATED,
) -> bytes:
    """The archive with some members changed (None: left out), and more of them, packed in another way."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name, member in {**members(content), **changed}.items():
            if member is not None:
                archive.writestr(name, member)
        for name, member in (more or {}).items():
            archive.writestr(name, member, compress_type=kind)
    return buffer.getvalue()


def array_name(content: bytes) -> str:
    """The name of one array in a skops file."""
    return next(name for name in sorted(members(content)) if name.endswith(".npy"))


def zeros(count: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(count))
    return buffer.getvalue()


def trees_of(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("__loader__") == "TreeNode":
            yield node
        for value in node.values():
            yield from trees_of(value)
    elif isinstance(node, list):
        for value in node:
            yield from trees_of(value)
