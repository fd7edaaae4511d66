"""Read a random forest from a skops archive, without skops and scikit-learn.

A skops archive is a ZIP of `schema.json`, a tree of nodes that each name a type, and of NumPy
arrays. skops builds an object of each node's type, for which it imports scikit-learn. Here no
object is built and nothing is imported: the few arrays of a forest are read as plain numbers. That
is done only if every node of the archive is of a type that a plain forest is made of; any other
archive is left to skops, which refuses types that are not trusted.
"""

import io
import json
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.forest import Forest, Tree

_SCHEMA = "schema.json"
_PROTOCOL = 2
_MOST_BYTES = 2**28  # of one member; a tree of 100,000 nodes has 6 MB

_FOREST = ("sklearn.ensemble._forest", "RandomForestClassifier", "ObjectNode")
_DECISION_TREE = ("sklearn.tree._classes", "DecisionTreeClassifier", "ObjectNode")
_TREE = ("sklearn.tree._tree", "Tree", "TreeNode")
_DICT = ("builtins", "dict", "DictNode")
_LIST = ("builtins", "list", "ListNode")
_PLAIN = ("builtins", "str", "JsonNode")
_ARRAY = ("numpy", "ndarray", "NdArrayNode")
_TYPES = frozenset(
    {
        _FOREST,
        _DECISION_TREE,
        _TREE,
        _DICT,
        _LIST,
        _PLAIN,
        _ARRAY,
        ("builtins", "tuple", "TupleNode"),
        ("builtins", "str", "TypeNode"),
        ("builtins", "int", "TypeNode"),
        ("numpy", "int64", "NdArrayNode"),
        ("numpy", "float64", "NdArrayNode"),
    }
)
"""Module, name and loader of the nodes of a plain forest."""


def read_forest(content: bytes) -> Forest | None:
    """Return the forest in an archive; None if it is, or contains, anything else.

    Raises:
        zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, RecursionError: the archive is
            damaged.
        TypeError, ValueError: it is a forest whose parts do not fit together.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        objects: list[dict[str, Any]] = []

        def listed(found: dict[str, Any]) -> dict[str, Any]:
            objects.append(found)
            return found

        schema = json.loads(_member(archive, _SCHEMA), object_hook=listed)
        if _type(schema) != _FOREST or schema.get("protocol") != _PROTOCOL:
            return None
        if not all(_type(found) in _TYPES for found in objects if _is_node(found)):
            return None
        return _Reader(archive).forest(schema)


class _Reader:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def forest(self, node: Any) -> Forest | None:
        found = _state(node, _FOREST)
        # Trees that are constrained to be monotonic refuse missing values, which these do not.
        constraints = found["monotonic_cst"]
        if _type(constraints) != _PLAIN or _plain(constraints) is not None:
            return None
        if _plain(found["n_outputs_"]) != 1:
            return None
        classes = tuple(self._array(found["classes_"]).tolist())
        trees = [self._tree(tree, len(classes)) for tree in _content(found["estimators_"], _LIST)]
        features = _plain(found["n_features_in_"])
        if not isinstance(features, int):
            raise ValueError("the number of features is not a whole number")
        return Forest(trees, classes, features)

    def _tree(self, node: Any, classes: int) -> Tree:
        found = _state(_state(node, _DECISION_TREE)["tree_"], _TREE)
        nodes, shares = self._array(found["nodes"]), self._array(found["values"])
        if nodes.ndim != 1 or shares.shape != (len(nodes), 1, classes):
            raise ValueError("the arrays of a tree differ in length")
        return Tree(
            left=_field(nodes, "left_child", np.int64),
            right=_field(nodes, "right_child", np.int64),
            feature=_field(nodes, "feature", np.int64),
            threshold=_field(nodes, "threshold", np.float64),
            missing_goes_left=_field(nodes, "missing_go_to_left", np.uint8) != 0,
            shares=_exactly(shares[:, 0, :], np.float64),
            impurity=_field(nodes, "impurity", np.float64),
            weight=_field(nodes, "weighted_n_node_samples", np.float64),
        )

    def _array(self, node: Any) -> NDArray[Any]:
        if _type(node) != _ARRAY or node.get("type") != "numpy":
            raise ValueError("an array is not stored as one")
        data = io.BytesIO(_member(self._archive, str(node.get("file"))))
        found: NDArray[Any] = np.lib.format.read_array(data, allow_pickle=False)
        return found


def _is_node(found: dict[str, Any]) -> bool:
    """Return whether an object of a schema has a type, as only the inner mappings have none."""
    return "__class__" in found or "__loader__" in found


def _type(node: Any) -> tuple[Any, ...]:
    if not isinstance(node, dict):
        return ()
    return node.get("__module__"), node.get("__class__"), node.get("__loader__")


def _content(node: Any, kind: tuple[str, ...]) -> Any:
    if _type(node) != kind:
        raise ValueError(f"{kind[1]} expected, not {_type(node)}")
    return node["content"]


def _state(node: Any, kind: tuple[str, ...]) -> Any:
    """Return the attributes of an object, by name."""
    return _content(_content(node, kind), _DICT)


def _plain(node: Any) -> Any:
    return json.loads(_content(node, _PLAIN))


def _field(nodes: NDArray[Any], name: str, dtype: type[Any]) -> NDArray[Any]:
    if name not in (nodes.dtype.names or ()):
        raise ValueError(f"the nodes of a tree have no {name}")
    return _exactly(nodes[name], dtype)


def _exactly(array: NDArray[Any], dtype: type[Any]) -> NDArray[Any]:
    """Return a native copy of an array that has this type; a rounded one would differ."""
    if not np.can_cast(array.dtype, dtype, "safe"):
        raise ValueError(f"an array of a tree is {array.dtype}, not {np.dtype(dtype)}")
    return array.astype(dtype)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > _MOST_BYTES:
        raise ValueError(f"{name} has {size} bytes")
    try:
        return archive.read(name)
    except RuntimeError as error:  # a password, or a compression that Python does not know
        raise ValueError(str(error)) from error
