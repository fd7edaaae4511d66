"""Bound a forest's probability where only some of a tile's features are known.

A comparison of an unknown feature may go either way, so a tile reaches several leaves of a tree.
The smallest and the largest share among these, summed over the trees as the forest sums the shares
themselves, are bounds of its probability. They hold to the last bit: floating-point addition and
division round monotonically, so that sums of smaller numbers, in the same order, are never larger.
They hold for every value of the unknown features, missing ones included.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.forest import Forest, Tree

_MOST_AT_ONCE = 2**20  # values that are held for nodes and tiles, 16 MiB with both bounds


@dataclass(frozen=True, slots=True)
class _Nodes:
    """Comparisons at one height, whose children stand before them.

    Attributes:
        at: int64 (N,), where their bounds are written.
        left, right: int64 (N,), where those of their children are.
        feature, threshold, missing_goes_left: as in `Tree`.
    """

    at: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_goes_left: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Level:
    """All comparisons at one height: of known features, and of unknown ones."""

    known: _Nodes
    unknown: _Nodes


class ForestBounds:
    """Bounds of the probability of a forest's second class, from some of the features.

    Subtrees that compare none of these features have the same bounds for all tiles, so they are
    computed once. What is left of each tree is evaluated for all tiles at once, from the leaves to
    the root.

    Args:
        forest: of two classes.
        known: the features that are known.
    """

    def __init__(self, forest: Forest, known: Sequence[int]) -> None:
        self._features = forest.n_features_in_
        self._trees = len(forest.trees)
        is_known = np.isin(np.arange(self._features), list(known))
        parts = [_BoundedTree(tree, is_known) for tree in forest.trees]
        offsets = np.cumsum([0, *(part.size for part in parts[:-1])])
        self._size = sum(part.size for part in parts)
        self._roots = offsets
        self._low = np.concatenate([part.low for part in parts])
        self._high = np.concatenate([part.high for part in parts])
        self._fixed = np.concatenate([part.fixed for part in parts])
        heights = max(len(part.levels) for part in parts)
        self._levels = [
            _Level(*(_joined(parts, offsets, height, known=known) for known in (True, False)))
            for height in range(heights)
        ]

    def of(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the bounds for T tiles, two arrays float64 (T,).

        Args:
            x: float32 (T, features); the unknown ones are not read.
        """
        step = max(1, _MOST_AT_ONCE // self._size)
        parts = [self._of_some(x[at : at + step]) for at in range(0, len(x), step)]
        if not parts:
            return np.empty(0), np.empty(0)
        low, high = zip(*parts, strict=True)
        return np.concatenate(low), np.concatenate(high)

    def _of_some(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        low, high = (np.empty((self._size, len(x))) for _ in range(2))
        low[self._fixed] = self._low[self._fixed, None]
        high[self._fixed] = self._high[self._fixed, None]
        values = np.ascontiguousarray(x.T)
        for level in self._levels:
            nodes = level.known
            if len(nodes.at):
                value = values[nodes.feature]
                goes_left = value <= nodes.threshold[:, None]
                goes_left |= np.isnan(value) & nodes.missing_goes_left[:, None]
                for bound in (low, high):
                    bound[nodes.at] = np.where(goes_left, bound[nodes.left], bound[nodes.right])
            nodes = level.unknown
            if len(nodes.at):
                low[nodes.at] = np.minimum(low[nodes.left], low[nodes.right])
                high[nodes.at] = np.maximum(high[nodes.left], high[nodes.right])
        return self._mean(low), self._mean(high)

    def _mean(self, bound: NDArray[np.float64]) -> NDArray[np.float64]:
        # np.sum would add in another order than the forest.
        return np.asarray(np.add.accumulate(bound[self._roots], axis=0)[-1] / self._trees)


class _BoundedTree:
    """A tree without the subtrees that compare no known feature.

    Attributes:
        size: number of nodes that are left; the root is the first.
        low, high: float64 (size,), bounds of those that have the same for all tiles.
        fixed: bool (size,), which these are.
        levels: indices of the other nodes by height, and whether each compares a known feature.
    """

    def __init__(self, tree: Tree, is_known: NDArray[np.bool_]) -> None:
        inner = tree.is_inner
        low, high = tree.shares[:, 1].copy(), tree.shares[:, 1].copy()
        fixed = ~inner | ~is_known[np.where(inner, tree.feature, 0)]
        height = np.zeros(len(inner), np.int64)
        # Parents stand before their children.
        for node in np.flatnonzero(inner)[::-1]:
            left, right = tree.left[node], tree.right[node]
            fixed[node] &= fixed[left] and fixed[right]
            low[node] = min(low[left], low[right])
            high[node] = max(high[left], high[right])
            if not fixed[node]:
                height[node] = 1 + max(height[left], height[right])
        kept = _reachable(tree, fixed)
        number = np.full(len(inner), -1)
        number[kept] = np.arange(len(kept))
        self.size = len(kept)
        self.low, self.high, self.fixed = low[kept], high[kept], fixed[kept]
        height = height[kept]
        self._tree, self._kept, self._number = tree, kept, number
        self._compares_known = ~self.fixed & is_known[np.where(inner, tree.feature, 0)[kept]]
        self.levels = [np.flatnonzero(height == at) for at in range(1, int(height.max()) + 1)]

    def nodes(self, height: int, offset: int, *, known: bool) -> _Nodes:
        """Return the comparisons at one height, counted from 0, numbered from `offset`."""
        at = self.levels[height] if height < len(self.levels) else np.empty(0, np.int64)
        at = at[self._compares_known[at] == known]
        tree, node = self._tree, self._kept[at]
        return _Nodes(
            at + offset,
            self._number[tree.left[node]] + offset,
            self._number[tree.right[node]] + offset,
            tree.feature[node],
            tree.threshold[node],
            tree.missing_goes_left[node],
        )


def _reachable(tree: Tree, fixed: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the nodes that have no fixed node above them, in their order."""
    above = np.zeros(len(fixed), np.bool_)
    for node in np.flatnonzero(tree.is_inner):
        above[[tree.left[node], tree.right[node]]] = above[node] or fixed[node]
    return np.flatnonzero(~above)


def _joined(
    parts: Sequence[_BoundedTree], offsets: NDArray[np.int64], height: int, *, known: bool
) -> _Nodes:
    """Return all trees' comparisons at one height."""
    found = [
        part.nodes(height, int(offset), known=known)
        for part, offset in zip(parts, offsets, strict=True)
    ]
    return _Nodes(
        np.concatenate([nodes.at for nodes in found]),
        np.concatenate([nodes.left for nodes in found]),
        np.concatenate([nodes.right for nodes in found]),
        np.concatenate([nodes.feature for nodes in found]),
        np.concatenate([nodes.threshold for nodes in found]),
        np.concatenate([nodes.missing_goes_left for nodes in found]),
    )
