"""Divide the graph of the five sub-classifiers into one graph for each of them.

A bundle's `classifiers.onnx` normalises a tile, runs five networks and joins their probabilities at
its end. A divided graph has the same nodes and weights, without those that only the other four
need, so that it computes the same. The weights are copied as they are and never decoded.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from her2d.bundle.protobuf import fields, number, whole_fields, with_length
from her2d.inference.engine import CLASSIFIERS_OUTPUTS
from her2d.method import FOLDS

# Numbers of fields, from onnx.proto.
_GRAPH_OF_MODEL = 7
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO = 1, 5, 12, 13
_INPUT_OF_NODE, _OUTPUT_OF_NODE, _KIND, _ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS = 1, 3, 6, 11
_TENSOR_NAME = 8
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TENSOR, _ELEMENT, _SHAPE, _DIMENSION, _SIZE, _SYMBOL = 1, 1, 2, 1, 1, 2
_FLOAT = 1

_JOINED = CLASSIFIERS_OUTPUTS[0]


def fold_graphs(model: bytes) -> Iterator[bytes] | None:
    """Divide a graph; each part's output `p_strong` is float32 (N, 1), in the order of the folds.

    The parts are made one after another, because each may have hundreds of megabytes.

    Args:
        model: the content of `classifiers.onnx`.

    Returns:
        None if the graph is not five networks whose outputs it joins as its last step.
    """
    try:
        parts = _Parts(memoryview(model))
    except (IndexError, ValueError):
        return None
    return parts.divided() if parts.joins_folds() else None


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    content: memoryview

    @classmethod
    def read(cls, content: memoryview) -> "_Node":
        return cls(
            "".join(_texts(content, _KIND)),
            tuple(_texts(content, _INPUT_OF_NODE)),
            tuple(_texts(content, _OUTPUT_OF_NODE)),
            content,
        )

    @property
    def has_graphs(self) -> bool:
        """Whether it contains graphs, which may read any value without naming it as an input."""
        return any(
            field in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS)
            for attribute in _messages(self.content, _ATTRIBUTE)
            for field, _ in fields(attribute)
        )

    @property
    def axis(self) -> int | None:
        for attribute in _messages(self.content, _ATTRIBUTE):
            if _texts(attribute, _ATTRIBUTE_NAME) == ["axis"]:
                values = (v for field, v in fields(attribute) if field == _ATTRIBUTE_INT)
                axis = next(values, 0)
                return axis if isinstance(axis, int) else None
        return None

    def of_one_input(self, name: str) -> bytes:
        """Return the same node with only one of its inputs."""
        rest = (raw for field, _, raw in whole_fields(self.content) if field != _INPUT_OF_NODE)
        return with_length(_NODE, with_length(_INPUT_OF_NODE, name.encode()) + b"".join(rest))


class _Parts:
    """The fields of a model, sorted by whether a divided model has them too.

    Raises:
        IndexError, ValueError: it is not in protobuf, or has more than one graph.
    """

    def __init__(self, model: memoryview) -> None:
        self._around = [raw for field, _, raw in whole_fields(model) if field != _GRAPH_OF_MODEL]
        (graph,) = _messages(model, _GRAPH_OF_MODEL)
        self._nodes: list[tuple[_Node, memoryview]] = []
        self._weights: list[tuple[str, memoryview]] = []
        self._rest: list[memoryview] = []
        self._outputs = 0
        for field, value, raw in whole_fields(graph):
            if field == _NODE and isinstance(value, memoryview):
                self._nodes.append((_Node.read(value), raw))
            elif field == _INITIALIZER and isinstance(value, memoryview):
                self._weights.append(("".join(_texts(value, _TENSOR_NAME)), raw))
            elif field == _OUTPUT:
                self._outputs += 1
            elif field != _VALUE_INFO:  # what libraries infer themselves
                self._rest.append(raw)

    def joins_folds(self) -> bool:
        """Whether the last step joins five values side by side."""
        if not self._nodes or self._outputs != 1:
            return False
        last = self._last
        return (
            last.kind == "Concat"
            and last.outputs == (_JOINED,)
            and last.axis == 1
            and len(set(last.inputs)) == FOLDS
            and not any(node.has_graphs for node, _ in self._nodes)
        )

    def divided(self) -> Iterator[bytes]:
        return map(self._of_fold, self._last.inputs)

    @property
    def _last(self) -> _Node:
        return self._nodes[-1][0]

    def _of_fold(self, value: str) -> bytes:
        needed = {value}
        nodes: list[bytes | memoryview] = [self._last.of_one_input(value)]
        # A node stands behind those that compute its inputs.
        for node, raw in reversed(self._nodes[:-1]):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                nodes.append(raw)
        weights = (raw for name, raw in self._weights if name in needed)
        graph = b"".join([*reversed(nodes), *weights, *self._rest, _ONE_COLUMN])
        return b"".join([*self._around, with_length(_GRAPH_OF_MODEL, graph)])


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for field, value in fields(message):
        if field == wanted and isinstance(value, memoryview):
            yield value


def _texts(message: memoryview, wanted: int) -> list[str]:
    return [bytes(value).decode() for value in _messages(message, wanted)]


def _one_column() -> bytes:
    """Return the description of the output, float32 (N, 1)."""
    rows = with_length(_DIMENSION, with_length(_SYMBOL, b"N"))
    columns = with_length(_DIMENSION, number(_SIZE, 1))
    tensor = number(_ELEMENT, _FLOAT) + with_length(_SHAPE, rows + columns)
    name = with_length(_VALUE_NAME, _JOINED.encode())
    return with_length(_OUTPUT, name + with_length(_VALUE_TYPE, with_length(_TENSOR, tensor)))


_ONE_COLUMN = _one_column()
