"""What a skops file may hold, checked on the zip and its JSON before skops builds anything of it.

skops walks a graph of nodes that may name each other by number, so that a few kilobytes can keep it busy for ever, and
it sets any attribute to anything that it trusts. Here a file is held against the only shape that ours have: these
estimators with these attributes, all values numbers, short texts or plain arrays, and every node once but for constants
and the forest's template of a tree.
"""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile

# A model of ours has 500 members and 7,000 nodes, and unpacks to 2 MB; a small file can be made that unpacks to any
# size. zipfile bounds what a deflated member unpacks to by the size it states, and that of no other kind.
MAX_MEMBERS = 5_000
MAX_NODES = 100_000
MAX_UNPACKED_BYTES = 50_000_000
MAX_SCHEMA_BYTES = 10_000_000
_MAX_VALUE = 100
_MEMBER = re.compile(r"schema\.json|\d+\.npy")
# Begins the entry of each member in a zip's table of contents.
_ENTRY = b"PK\x01\x02"

_TREE_SETTINGS = {
    *("criterion", "max_depth", "min_samples_split", "min_samples_leaf", "min_weight_fraction_leaf", "max_features"),
    *("max_leaf_nodes", "random_state", "min_impurity_decrease", "class_weight", "ccp_alpha", "monotonic_cst"),
    "_sklearn_version",
}
_FITTED = {"n_features_in_", "n_outputs_", "n_classes_", "classes_"}


@dataclass(frozen=True)
class _Part:
    """An object in the file: its type, the attributes that it may have, and those that it must have.

    They are those of scikit-learn 1.6 to 1.9; a later one may bring more.
    """

    type: str
    attributes: set[str]
    needed: set[str]


_OWN = {
    *("n_estimators", "max_depth", "min_samples_leaf", "linear", "random_state"),
    *("n_features_in_", "classes_", "slope_", "weights_", "forest_"),
}
_ARRAYS = {"max_depth", "node_count", "nodes", "values"}
_MODEL = _Part("ifllm_hub.reward.model.estimator.ImplicitFeedbackRewardModel", _OWN, _OWN)
_FOREST = _Part(
    "sklearn.ensemble._forest.ExtraTreesClassifier",
    {
        *(*_TREE_SETTINGS, *_FITTED),
        *("n_estimators", "bootstrap", "oob_score", "n_jobs", "verbose", "warm_start", "max_samples"),
        *("estimator", "estimator_", "estimators_", "estimator_params"),
        *("_n_samples", "_n_samples_bootstrap", "_sample_weight"),
    },
    {"n_estimators", "n_jobs", "estimators_"},
)
_TEMPLATE = _Part("sklearn.tree._classes.ExtraTreeClassifier", {*_TREE_SETTINGS, "splitter"}, set())
_TREE = _Part(_TEMPLATE.type, {*_TEMPLATE.attributes, *_FITTED, "max_features_", "tree_"}, {"tree_"})
_NODES = _Part("sklearn.tree._tree.Tree", _ARRAYS, _ARRAYS)
_NODE = {"__class__", "__module__", "__loader__", "__id__"}


def check_archive(content: bytes) -> str | None:
    """What makes the content of a skops file unsafe to give to skops, or None.

    Raises:
        Exception: it is no zip archive, or its schema no JSON; of whatever type the first broken part happens to cause.
    """
    if content.count(_ENTRY) > MAX_MEMBERS:
        return f"has more than {MAX_MEMBERS:,} files, far more than any model of ours"
    with ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
        for member in members:
            if not _MEMBER.fullmatch(member.filename) or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
                return f"holds a file {member.filename[:100]!a} of a kind that no reward model of ours does"
        names = {member.filename for member in members}
        if len(names) != len(members):
            return "holds two files of the same name"
        size = sum(member.file_size for member in members)
        if archive.getinfo("schema.json").file_size > MAX_SCHEMA_BYTES or size > MAX_UNPACKED_BYTES:
            return f"unpacks to {size:,} bytes, far more than any model of ours"
        schema = archive.read("schema.json")
    if schema.count(b"{") + schema.count(b"[") > MAX_NODES:
        return f"has more than {MAX_NODES:,} nodes, far more than any model of ours"
    return next(_Schema(names).problems(json.loads(schema, object_pairs_hook=without_repeats)), None)


def without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; readers differ in which of two members of the same name they take.

    Raises:
        ValueError: two members have the same name.
    """
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a JSON object names a member twice")
    return members


class _Schema:
    """Looks for what no schema of ours has; every method yields problems, of which only the first is meant."""

    def __init__(self, members: set[str]) -> None:
        self._members = members
        self._known: dict[int, Any] = {}
        self._files: dict[str, int] = {}

    def problems(self, schema: Any) -> Iterator[str]:
        if not isinstance(schema, dict) or type(schema.get("protocol")) is not int:
            yield "its schema has no protocol"
        own = {name: value for name, value in schema.items() if name not in ("protocol", "_skops_version")}
        yield from self._estimator(own, _MODEL)
        if self._members - set(self._files) != {"schema.json"}:
            yield "holds a file that nothing of the model uses"

    def _estimator(self, node: Any, part: _Part) -> Iterator[str]:
        yield from self._node(node, "ObjectNode", part.type, {"content"}, part if part is _TEMPLATE else None)
        yield from self._attributes(node["content"], part)

    def _attributes(self, node: Any, part: _Part) -> Iterator[str]:
        """The attributes of an estimator: those that it may have, those that it must have, and each of its kind."""
        yield from self._node(node, "DictNode", "builtins.dict", {"content", "key_types"})
        attributes = node["content"]
        name = part.type.rpartition(".")[2]
        if not isinstance(attributes, dict) or not part.needed <= set(attributes):
            yield f"its {name} is incomplete"
        for attribute in sorted(set(attributes) - part.attributes):
            yield f"its {name} has an attribute {attribute[:100]!a}, which none of ours does"
        yield from self._list(node["key_types"], "ListNode", "builtins.list")
        if len(node["key_types"]["content"]) != len(attributes):
            yield f"its {name} has another number of names than of attributes"
        for key_type in node["key_types"]["content"]:
            yield from self._node(key_type, "TypeNode", "builtins.str", set(), key_type)
        for attribute, value in attributes.items():
            yield from self._attribute(attribute, value)

    def _attribute(self, name: str, node: Any) -> Iterator[str]:
        if name == "forest_":
            yield from self._estimator(node, _FOREST)
        elif name in ("estimator", "estimator_"):
            yield from self._estimator(node, _TEMPLATE)
        elif name == "estimators_":
            yield from self._list(node, "ListNode", "builtins.list")
            for tree in node["content"]:
                yield from self._estimator(tree, _TREE)
        elif name == "tree_":
            yield from self._node(node, "TreeNode", _NODES.type, {"content", "__reduce__"})
            if not isinstance(node["__reduce__"], dict) or set(node["__reduce__"]) != {"args"}:
                yield "a tree is not made from its arguments"
            yield from self._values(node["__reduce__"]["args"])
            yield from self._attributes(node["content"], _NODES)
        elif name == "estimator_params":
            yield from self._values(node)
        else:
            yield from self._value(node, name)

    def _values(self, node: Any) -> Iterator[str]:
        yield from self._list(node, "TupleNode", "builtins.tuple")
        for value in node["content"]:
            yield from self._value(value, "a tuple")

    def _value(self, node: Any, name: str) -> Iterator[str]:
        """A number, a short text, nothing, or a plain array."""
        loader = node.get("__loader__") if isinstance(node, dict) else None
        if loader == "NdArrayNode":
            kind = "numpy.int64" if node.get("__class__") == "int64" else "numpy.ndarray"
            yield from self._node(node, "NdArrayNode", kind, {"type", "file"}, node)
            file = node["file"]
            if node["type"] != "numpy" or not isinstance(file, str) or file not in self._members:
                yield f"{name} is an array that is not there"
            if self._files.setdefault(file, node["__id__"]) != node["__id__"]:
                yield "repeats an array, which no reward model of ours does"
            return
        yield from self._node(node, "JsonNode", "builtins.str", {"content", "is_json"}, node)
        text = node["content"]
        if not isinstance(text, str) or len(text) > _MAX_VALUE or node["is_json"] is not True:
            yield f"{name} is longer than any of ours"
        value = json.loads(text)
        if not isinstance(value, str | int | float | None) or (isinstance(value, str) and not value.isprintable()):
            yield f"{name} is neither a number nor a text"

    def _list(self, node: Any, loader: str, kind: str) -> Iterator[str]:
        yield from self._node(node, loader, kind, {"content"})
        if not isinstance(node["content"], list):
            yield "a list is no list"

    def _node(self, node: Any, loader: str, kind: str, more: set[str], same: Any = None) -> Iterator[str]:
        """A node of this kind.

        Args:
            same: what every node of its number must be like, as skops takes them for one; None: no other may have it.
        """
        if not isinstance(node, dict) or not set(node) >= _NODE:
            yield "its schema has something that is no node"
        found = f"{node['__module__']}.{node['__class__']}"
        if found != kind:
            yield f"holds the type {ascii(found)[1:-1]:.100}, which no reward model of ours does in that place"
        if node["__loader__"] != loader or set(node) != _NODE | more:
            yield f"holds a {kind} of another form than ours"
        number = node["__id__"]
        if type(number) is not int or number < 1:
            yield "a node has no number"
        if number in self._known and (same is None or self._known[number] != same):
            yield "two nodes have the same number, which no reward model of ours has there"
        self._known[number] = same
