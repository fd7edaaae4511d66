"""Classify by a random forest as scikit-learn does, to the last bit, without importing it.

Importing scikit-learn takes longer than a small slide. A forest is a few arrays: from the root of
each tree a tile goes left where its feature is at most the threshold, and the forest's probability
is the mean of the shares in the leaves. scikit-learn compares float32 features with float64
thresholds, adds the trees in their order, and divides once. So does this module.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAF = -1
_MOST_AT_ONCE = 2**20  # nodes that are held for tiles in all trees, 8 MiB


@dataclass(frozen=True, slots=True)
class Tree:
    """One decision tree of N nodes; node 0 is the root, and parents stand before their children.

    Attributes:
        left, right: int64 (N,), children; -1 where the node is a leaf.
        feature: int64 (N,), what a node compares.
        threshold: float64 (N,), up to which a tile goes left.
        missing_goes_left: bool (N,), where a tile goes whose feature is NaN.
        shares: float64 (N, C), shares of the classes among the node's training tiles.
        impurity: float64 (N,), of those tiles.
        weight: float64 (N,), the sum of their weights.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    missing_goes_left: NDArray[np.bool_]
    shares: NDArray[np.float64]
    impurity: NDArray[np.float64]
    weight: NDArray[np.float64]

    @property
    def is_inner(self) -> NDArray[np.bool_]:
        """bool (N,): nodes that compare a feature, which leaves do not."""
        return np.asarray(self.left != _LEAF)

    def check(self, features: int) -> None:
        """Raise ValueError if the arrays are not a tree over so many features.

        scikit-learn itself follows any index that a file contains.
        """
        nodes = len(self.left)
        if nodes == 0:
            raise ValueError("a tree has no nodes")
        inner = self.is_inner
        children = np.concatenate([self.left[inner], self.right[inner]])
        if not np.array_equal(np.sort(children), np.arange(1, nodes)):
            raise ValueError("a tree has nodes that are not one another's children")
        parents = np.flatnonzero(inner)
        if np.any(self.left[inner] <= parents) or np.any(self.right[inner] <= parents):
            raise ValueError("a tree has a node that stands before its parent")
        if np.any((self.feature[inner] < 0) | (self.feature[inner] >= features)):
            raise ValueError(f"a tree compares a feature that is not one of the {features}")
        if np.any(np.isnan(self.threshold[inner])):
            raise ValueError("a tree has a threshold that is not a number")
        if not np.all((self.shares >= 0) & (self.shares <= 1)):
            raise ValueError("a tree has a leaf without shares from 0 to 1")

    def importance(self, features: int) -> NDArray[np.float64]:
        """Return by how much each feature's comparisons reduce the impurity, float64 (features,).

        It sums to 1, unless no comparison reduces it.
        """
        inner = self.is_inner
        held = self.impurity * self.weight
        reduced = held[inner] - held[self.left[inner]] - held[self.right[inner]]
        total = np.bincount(self.feature[inner], reduced, features).astype(np.float64)
        return np.asarray(total / total.sum() if total.sum() > 0 else total)


class Forest:
    """A random forest.

    Attributes:
        trees: its trees.
        classes_: the labels of the classes, as scikit-learn names them.
        n_features_in_: how many features a tile has.
    """

    def __init__(self, trees: list[Tree], classes: tuple[Any, ...], features: int) -> None:
        """Join the trees' arrays.

        Raises:
            ValueError: there are no trees, or one of them is not a tree.
        """
        if not trees:
            raise ValueError("a forest has no trees")
        for tree in trees:
            tree.check(features)
        self.trees = tuple(trees)
        self.classes_ = classes
        self.n_features_in_ = features
        sizes = [len(tree.left) for tree in trees]
        self._roots = np.cumsum([0, *sizes[:-1]])
        of_tree = np.repeat(self._roots, sizes)
        inner = np.concatenate([tree.is_inner for tree in trees])
        itself = np.arange(len(inner))
        # A leaf's children are the leaf itself, so that tiles in it stay there.
        self._left, self._right = (
            np.where(inner, np.concatenate(children) + of_tree, itself)
            for children in ([tree.left for tree in trees], [tree.right for tree in trees])
        )
        self._feature = np.where(inner, np.concatenate([tree.feature for tree in trees]), 0)
        self._threshold = np.concatenate([tree.threshold for tree in trees])
        self._missing_goes_left = np.concatenate([tree.missing_goes_left for tree in trees])
        self._shares = np.concatenate([tree.shares for tree in trees])
        self._depth = self._longest_path()

    @property
    def feature_importances_(self) -> NDArray[np.float64]:
        """The mean decrease in impurity by each feature, as scikit-learn defines it."""
        grown = [tree for tree in self.trees if len(tree.left) > 1]
        if not grown:
            return np.zeros(self.n_features_in_)
        mean = np.mean([tree.importance(self.n_features_in_) for tree in grown], axis=0)
        return np.asarray(mean / mean.sum() if mean.sum() > 0 else mean, np.float64)

    def predict_proba(self, p_folds: Any) -> NDArray[np.float64]:
        """Return the probabilities of the classes, float64 (T, C).

        Args:
            p_folds: features of T tiles, rounded to float32.

        Raises:
            ValueError: a tile has another number of features, or an infinite one.
        """
        x = np.asarray(p_folds, np.float32)
        if x.ndim != 2 or x.shape[1] != self.n_features_in_:
            raise ValueError(f"tiles must have {self.n_features_in_} features, not {x.shape}")
        if np.any(np.isinf(x)):
            raise ValueError("a tile has an infinite feature")
        step = max(1, _MOST_AT_ONCE // len(self._roots))
        parts = [self._probabilities(x[at : at + step]) for at in range(0, len(x), step)]
        return np.concatenate(parts) if parts else np.empty((0, self._shares.shape[1]))

    def _probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        total = np.zeros((len(x), self._shares.shape[1]))
        for leaves in self._leaves(x).T:
            total += self._shares[leaves]
        total /= len(self._roots)
        return total

    def _leaves(self, x: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the leaf of each tile in each tree, int64 (T, trees)."""
        at = np.tile(self._roots, (len(x), 1))
        tiles = np.arange(len(x))[:, None]
        for _ in range(self._depth):
            value = x[tiles, self._feature[at]]
            goes_left = value <= self._threshold[at]
            goes_left |= np.isnan(value) & self._missing_goes_left[at]
            at = np.where(goes_left, self._left[at], self._right[at])
        return at

    def _longest_path(self) -> int:
        length, level = 0, self._roots
        while len(level := level[self._left[level] != level]):
            level = np.concatenate([self._left[level], self._right[level]])
            length += 1
        return length
