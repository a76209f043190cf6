"""The reward model as flat arrays in one safetensors file: nothing is constructed on loading, and scoring is fast.

Scoring follows QuickScorer (Lucchese et al., SIGIR 2015, https://doi.org/10.1145/2766462.2767733): the leaves of a tree
are bits, left to right; a test `x > threshold` that holds rules out the leaves below the left child. The leaf that a
walk would end in is the lowest bit that no test has ruled out. The bits left by all tests of one feature depend only on
the rank of x among that feature's thresholds, so they are tabulated, and a pair costs one row of each table.
"""

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ifllm_hub.errors import IfllmError, first_line
from ifllm_hub.reward.model.estimator_audit import without_repeats

FOREST_FILE = "forest.safetensors"

# Eight arrays take 600.
MAX_HEADER_BYTES = 10_000
# Bits of a mask. Trees of depth 6 have no more leaves.
MAX_LEAVES = 64
MAX_NODES = 1_000_000
MAX_TREES = 10_000
# The tables for scoring take up to one mask a tree for each test: a small file could ask for any amount of memory.
MAX_TABLE_BYTES = 256_000_000
# A contrast of exactly +-1 has an infinite logit; no forest of this size knows that much.
_LARGEST_CONTRAST = 0.998
# The thresholds are compared in float32. Products of these two are finite.
_LARGEST_VALUE = float(np.finfo(np.float32).max)
_LARGEST_WEIGHT = 1e100
# Pairs scored together, so that their masks stay in the cache.
_CHUNK = 512

_LAYOUT = {
    "left": "i4",
    "right": "i4",
    "feature": "i4",
    "threshold": "f8",
    "share": "f8",
    "start": "i4",
    "weights": "f8",
    "slope": "f8",
}


@dataclass(frozen=True)
class FlatForest:
    """All trees, one after the other; children are counted from the first node of their tree.

    Attributes:
        left, right: (nodes,) int32 children, -1 in leaves.
        feature: (nodes,) int32 column that an inner node tests.
        threshold: (nodes,) float64; larger values go right.
        share: (nodes,) float64 vote for left of the training pairs in a node.
        start: (trees + 1,) int32 first node of each tree, then the number of nodes.
        weights: (features,) float64 of the line beside the trees.
        slope: () float64 of the calibration.
    """

    left: np.ndarray
    right: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    share: np.ndarray
    start: np.ndarray
    weights: np.ndarray
    slope: np.ndarray

    def predict(self, X: np.ndarray) -> np.ndarray:
        """P(left preferred).

        Args:
            X: (n, width) float64, left minus right, NaN where not recorded.

        Returns:
            (n,) float64.

        Raises:
            ValueError: X has another shape, or a value that is infinite in float32.
        """
        return (1 + np.tanh(self.logit(X) / 2)) / 2

    def logit(self, X: np.ndarray) -> np.ndarray:
        """log(p / (1 - p)) of what `predict` gives: finite, and its sign changes when the answers are swapped."""
        X = np.asarray(X, dtype=np.float64)
        if X.ndim != 2 or X.shape[1] != self.width:
            raise ValueError(f"X has the shape {X.shape}; expected (n, {self.width}).")
        X = np.where(np.isnan(X), 0.0, X)
        if too_large(X).any():
            raise ValueError("X has a value that is infinite in float32.")
        parts = [self._contrast(X[start : start + _CHUNK]) for start in range(0, len(X), _CHUNK)]
        line = (X * self.weights).sum(axis=1)
        return self.slope * (line + logit_of_contrast(np.concatenate(parts))) if parts else line

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.weights)

    def _contrast(self, X: np.ndarray) -> np.ndarray:
        """(n,) in [-1, 1]: vote for left minus vote for left of the mirror image."""
        votes = self._vote(np.concatenate([X, -X]))
        return votes[: len(X)] - votes[len(X) :]

    def _vote(self, X: np.ndarray) -> np.ndarray:
        # scikit-learn compares in float32 with thresholds in float64.
        X = X.astype(np.float32).astype(np.float64)
        thresholds, masks, shares = self._tables
        alive = masks[0].take(np.searchsorted(thresholds[0], X[:, 0]), axis=0)
        for column in range(1, self.width):
            alive &= masks[column].take(np.searchsorted(thresholds[column], X[:, column]), axis=0)
        lowest = np.bitwise_count((alive & (~alive + np.uint64(1))) - np.uint64(1))
        first_leaf = np.arange(len(self.start) - 1) * MAX_LEAVES
        return shares.take(lowest + first_leaf).mean(axis=1)

    @cached_property
    def _tables(self) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Per feature its sorted thresholds and (thresholds + 1, trees) leaves alive by rank; shares of all leaves."""
        trees = len(self.start) - 1
        shares = np.zeros((trees, MAX_LEAVES))
        tests: list[list[tuple[float, int, int]]] = [[] for _ in range(self.width)]
        for tree in range(trees):
            nodes = slice(self.start[tree], self.start[tree + 1])
            leaves, ruled_out = _leaves(self.left[nodes], self.right[nodes])
            shares[tree, : len(leaves)] = self.share[nodes][leaves]
            for node, bits in ruled_out.items():
                tests[self.feature[nodes][node]].append((float(self.threshold[nodes][node]), tree, bits))
        thresholds, masks = [], []
        for column in tests:
            values = np.unique([threshold for threshold, _, _ in column])
            alive = np.full((len(values) + 1, trees), np.iinfo(np.uint64).max, dtype=np.uint64)
            for threshold, tree, bits in column:
                alive[np.searchsorted(values, threshold) + 1 :, tree] &= ~np.uint64(bits)
            thresholds.append(values)
            masks.append(alive)
        return thresholds, masks, shares.ravel()


def too_large(X: np.ndarray) -> np.ndarray:
    """Same shape as X: where a value is infinite in float32, in which the thresholds are compared."""
    return np.abs(X) > _LARGEST_VALUE


def logit_of_contrast(contrast: np.ndarray) -> np.ndarray:
    """log((1 + d) / (1 - d)), finite also for d = +-1."""
    clipped = np.clip(contrast, -_LARGEST_CONTRAST, _LARGEST_CONTRAST)
    return np.log1p(clipped) - np.log1p(-clipped)


def _leaves(left: np.ndarray, right: np.ndarray) -> tuple[list[int], dict[int, int]]:
    """The leaves of a tree from left to right, and per inner node the bits of the leaves below its left child."""
    leaves: list[int] = []
    bits: dict[int, int] = {}
    below: dict[int, int] = {}
    stack = [(0, False)]
    while stack:
        node, done = stack.pop()
        if left[node] == -1:
            below[node] = 1 << len(leaves)
            leaves.append(node)
        elif done:
            bits[node] = below[int(left[node])]
            below[node] = bits[node] | below[int(right[node])]
        else:
            stack += [(node, True), (int(right[node]), False), (int(left[node]), False)]
    return leaves, bits


def check_forest(forest: FlatForest) -> str | None:
    """What makes a forest unsafe or meaningless to follow, or None; checked before anything is indexed with it."""
    if forest.width < 1:
        return "it has no features"
    nodes = len(forest.left)
    arrays = (forest.right, forest.feature, forest.threshold, forest.share)
    if not 0 < nodes <= MAX_NODES or any(len(array) != nodes for array in arrays):
        return "its arrays differ in length"
    sizes = np.diff(forest.start.astype(np.int64))
    if len(sizes) < 1 or forest.start[0] != 0 or forest.start[-1] != nodes or not (sizes > 0).all():
        return "its trees do not fill its nodes"
    inner = forest.left != -1
    masks = len(sizes) * (int(inner.sum()) + forest.width + MAX_LEAVES)
    if len(sizes) > MAX_TREES or masks * np.dtype(np.uint64).itemsize > MAX_TABLE_BYTES:
        return "it is far larger than any model of ours"
    if not ((forest.weights >= 0) & (forest.weights <= _LARGEST_WEIGHT)).all():
        return "a weight is negative or not finite"
    if not 0 <= forest.slope <= 10:
        return "its slope is not in 0-10"
    if not (np.isfinite(forest.share).all() and ((forest.share >= 0) & (forest.share <= 1)).all()):
        return "a share is not in 0-1"
    problem = check_splits(forest.feature[inner], forest.threshold[inner], forest.width)
    if problem:
        return problem
    for tree in range(len(sizes)):
        span = slice(forest.start[tree], forest.start[tree + 1])
        problem = check_links(forest.left[span], forest.right[span])
        if problem is None and (forest.left[span] == -1).sum() > MAX_LEAVES:
            problem = f"it has more than {MAX_LEAVES} leaves"
        if problem:
            return f"tree {tree}: {problem}"
    return None


def check_splits(feature: np.ndarray, threshold: np.ndarray, width: int) -> str | None:
    """What is wrong with the tests of inner nodes, or None."""
    if not ((feature >= 0) & (feature < width)).all():
        return "a split uses an unknown feature"
    if not np.isfinite(threshold).all():
        return "a threshold is not finite"
    return None


def check_links(left: np.ndarray, right: np.ndarray) -> str | None:
    """What is wrong with the links of one tree, or None.

    Every inner node must have two later nodes as children (so that a walk ends), every node but the root one parent.
    """
    count, inner = len(left), left != -1
    if not ((right != -1) == inner).all():
        return "a node has one child"
    children = np.concatenate([left[inner], right[inner]])
    if not ((children > np.tile(np.flatnonzero(inner), 2)) & (children < count)).all():
        return "a child is out of range"
    if len(np.unique(children)) != len(children) or len(children) != count - 1:
        return "a node has no parent or several"
    return None


def dump_forest(forest: FlatForest) -> bytes:
    """The content of a safetensors file; the same forest gives the same bytes."""
    from safetensors.numpy import save

    return save({name: np.asarray(getattr(forest, name), dtype=kind) for name, kind in _LAYOUT.items()})


def read_forest(content: bytes, where: str) -> FlatForest:
    """Read and audit the arrays.

    Args:
        where: what to call the file in errors.

    Raises:
        IfllmError: not safetensors, arrays of other names, types or shapes, or a forest that `check_forest` refuses.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    length = int.from_bytes(content[:8], "little")
    try:
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {length:,} bytes")
        json.loads(content[8 : 8 + length], object_pairs_hook=without_repeats)
        arrays = load(content)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise IfllmError(f"{where}: damaged ({first_line(error):.200}). Download the model again.") from error
    for name in {**_LAYOUT, **arrays}:
        dimensions = 0 if name == "slope" else 1
        known = name in _LAYOUT and name in arrays
        if not known or arrays[name].dtype != np.dtype(_LAYOUT[name]) or arrays[name].ndim != dimensions:
            raise IfllmError(f"{where}: the array {name!r} is missing, unknown or of another type. Not loaded.")
    forest = FlatForest(**arrays)
    problem = check_forest(forest)
    if problem:
        raise IfllmError(f"{where}: {problem}. Not loaded.")
    return forest
