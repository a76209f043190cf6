"""A skops file without what differs from one run to the next, so that the same model is the same bytes.

skops numbers the nodes of its schema by memory address, names the arrays by the same numbers, and puts the hour on
every file of the archive; between the fields of scikit-learn's tree nodes it writes whatever the memory held. Here
nodes are numbered from 1 in the order in which the schema names them, the clock is left out, and gaps are zero. Each
constant has a number of its own, as if no two had been one object, so that a model that was loaded and saved again is
the same bytes, too.
"""

import io
import json
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

_SCHEMA = "schema.json"
# Nodes that are their content: nobody can tell whether two of them are one object.
_CONSTANTS = ("JsonNode", "TypeNode")
_UNIX = 3


def canonical(content: bytes) -> bytes:
    """The same estimator as another file; the same bytes for the same estimator and versions of skops and zlib.

    Args:
        content: of a file that `skops.io.dumps` has written.
    """
    with ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(members.pop(_SCHEMA))
    files: dict[str, str] = {}
    _renumber(schema, {}, files)
    buffer = io.BytesIO()
    with ZipFile(buffer, "w") as archive:
        for old, new in files.items():
            _add(archive, new, _zero_gaps(members[old]))
        _add(archive, _SCHEMA, json.dumps(schema, separators=(",", ":")).encode())
    return buffer.getvalue()


def _renumber(node: Any, numbers: dict[int, int], files: dict[str, str]) -> None:
    """Number a node and those below it, in place.

    Args:
        numbers: given so far, by address, or by what is none for a constant; extended.
        files: new name of each array's file by its old one; extended.
    """
    if isinstance(node, list):
        for item in node:
            _renumber(item, numbers, files)
    elif isinstance(node, dict):
        if "__id__" in node:
            address = -len(numbers) if node["__loader__"] in _CONSTANTS else node["__id__"]
            node["__id__"] = numbers.setdefault(address, len(numbers) + 1)
        if "file" in node:
            node["file"] = files.setdefault(node["file"], f"{node['__id__']}.npy")
        for item in node.values():
            _renumber(item, numbers, files)


def _zero_gaps(content: bytes) -> bytes:
    """An `.npy` file of records, with zeros between their fields; of anything else, as it is."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()


def _add(archive: ZipFile, name: str, content: bytes) -> None:
    entry = ZipInfo(name)  # of 1980, where the clock of zip begins
    entry.compress_type, entry.create_system = ZIP_DEFLATED, _UNIX
    archive.writestr(entry, content)
