"""An ONNX graph as nodes and weights, without the onnx package.

That package is not part of every installation. Weights are copied as they are and decoded only
where a value is asked for; like this machine's numbers, they have their lowest byte first.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.protobuf import fields, head, number, numbers, whole_fields, with_length

# Numbers of fields, from onnx.proto.
_GRAPH_OF_MODEL, _OPSET = 7, 8
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_NODE, _NAME, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO = 1, 2, 5, 11, 12, 13
_INPUT_OF_NODE, _OUTPUT_OF_NODE, _NAME_OF_NODE, _KIND, _ATTRIBUTE, _DOMAIN = 1, 2, 3, 4, 5, 7
_NAMES_IN_NODE = (_INPUT_OF_NODE, _OUTPUT_OF_NODE, _KIND, _DOMAIN)
_ATTRIBUTE_NAME, _ATTRIBUTE_INT, _ATTRIBUTE_BYTES, _ATTRIBUTE_GRAPH = 1, 3, 4, 6
_ATTRIBUTE_INTS, _ATTRIBUTE_GRAPHS, _ATTRIBUTE_TYPE = 8, 11, 20
_INT_ATTRIBUTE, _INTS_ATTRIBUTE = 2, 7
_DIMS, _DATA_TYPE, _TENSOR_NAME, _RAW_DATA = 1, 2, 8, 9
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TENSOR, _ELEMENT, _SHAPE, _DIMENSION, _SIZE, _SYMBOL = 1, 1, 2, 1, 1, 2

FLOAT, INT64 = 1, 7
"""Numbers of the types of values."""

Attribute: TypeAlias = int | bytes | tuple[int, ...] | None
Array: TypeAlias = NDArray[np.float32] | NDArray[np.int64]
Shape: TypeAlias = tuple[int | None, ...]
"""The sizes of a value; None where it is not a number, as that of the batch."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step of a graph.

    Attributes:
        kind: name of its operator.
        inputs, outputs: names of values.
        attributes: what is not a number, a text or numbers is None.
        content: the whole node, as it is in protobuf.
        has_graphs: whether it contains graphs, which may read any value without naming it as an
            input.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Attribute]
    content: bytes | memoryview
    has_graphs: bool = False

    @classmethod
    def read(cls, content: memoryview) -> Self:
        """Read a node. Raises IndexError or ValueError if it is not one."""
        # One pass, since a graph has hundreds of nodes.
        named: dict[int, list[str]] = {field: [] for field in _NAMES_IN_NODE}
        attributes: dict[str, Attribute] = {}
        has_graphs = False
        for number_, value in fields(content):
            if not isinstance(value, memoryview):
                continue
            if number_ in named:
                named[number_].append(bytes(value).decode())
            elif number_ == _ATTRIBUTE:
                name, found, is_graph = _attribute(value)
                attributes[name] = found
                has_graphs |= is_graph
        return cls(
            # Operators of other domains are none that we know.
            ".".join([*filter(None, named[_DOMAIN]), *named[_KIND]]),
            tuple(named[_INPUT_OF_NODE]),
            tuple(named[_OUTPUT_OF_NODE]),
            attributes,
            content,
            has_graphs,
        )

    @classmethod
    def made(
        cls, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Attribute
    ) -> Self:
        """Return a new node, whose attributes are numbers of at least 0, or several of them."""
        content = [with_length(_INPUT_OF_NODE, name.encode()) for name in inputs]
        content += [with_length(_OUTPUT_OF_NODE, name.encode()) for name in outputs]
        content += [with_length(_KIND, kind.encode())]
        content += [_written_attribute(name, value) for name, value in attributes.items()]
        return cls(kind, tuple(inputs), tuple(outputs), attributes, b"".join(content))

    def renamed(self, names: Mapping[str, str]) -> "Node":
        """Return the same node without its name, and its values with those names in `names`."""
        inputs = tuple(names.get(name, name) for name in self.inputs)
        outputs = tuple(names.get(name, name) for name in self.outputs)
        named = (_INPUT_OF_NODE, _OUTPUT_OF_NODE, _NAME_OF_NODE)
        written = [with_length(_INPUT_OF_NODE, name.encode()) for name in inputs]
        written += [with_length(_OUTPUT_OF_NODE, name.encode()) for name in outputs]
        rest = (
            raw
            for number_, _, raw in whole_fields(memoryview(self.content))
            if number_ not in named
        )
        return replace(self, inputs=inputs, outputs=outputs, content=b"".join([*written, *rest]))


@dataclass(slots=True)
class Graph:
    """A model's graph.

    Attributes:
        around: the model's other fields.
        nodes: each behind those that compute its inputs.
        weights: tensors by name, as they are in protobuf.
        outputs: descriptions of the outputs, by name, as they are in protobuf.
        described: descriptions of other values, by name, as they are in protobuf.
        rest: the graph's other fields, its inputs among them.
        values: descriptions of all values that the file describes, by name.
    """

    around: list[memoryview]
    nodes: list[Node]
    weights: dict[str, bytes | memoryview]
    outputs: dict[str, bytes | memoryview]
    described: dict[str, memoryview]
    rest: list[memoryview]
    values: dict[str, memoryview] = field(default_factory=dict)

    @classmethod
    def read(cls, model: bytes) -> Self:
        """Read a model.

        Raises:
            IndexError, ValueError: it is not in protobuf, or has more than one graph.
        """
        view = memoryview(model)
        around = [raw for number_, _, raw in whole_fields(view) if number_ != _GRAPH_OF_MODEL]
        (content,) = _messages(view, _GRAPH_OF_MODEL)
        graph = cls(around, [], {}, {}, {}, [])
        for number_, value, raw in whole_fields(content):
            if not isinstance(value, memoryview):
                graph.rest.append(raw)
            elif number_ == _NODE:
                graph.nodes.append(Node.read(value))
            elif number_ == _INITIALIZER:
                graph.weights["".join(_texts(value, _TENSOR_NAME))] = value
            else:
                graph._describe(number_, value, raw)
        return graph

    def _describe(self, number_: int, value: memoryview, raw: memoryview) -> None:
        if number_ in (_INPUT, _OUTPUT, _VALUE_INFO):
            name = "".join(_texts(value, _VALUE_NAME))
            self.values[name] = value
        if number_ == _OUTPUT:
            self.outputs[name] = value
        elif number_ == _VALUE_INFO:
            self.described[name] = value
        else:
            self.rest.append(raw)

    def shape(self, name: str) -> Shape:
        """Return a value's shape; () if the file does not describe it.

        Raises:
            IndexError, ValueError: its description is not in protobuf.
        """
        return _shape(self.values[name]) if name in self.values else ()

    @property
    def opset(self) -> int | None:
        """Version of ONNX's own operators; None if the model names none."""
        for model_field in self.around:
            for number_, value in fields(model_field):
                if number_ == _OPSET and isinstance(value, memoryview):
                    found = dict(fields(value))
                    version = found.get(_OPSET_VERSION)
                    if not found.get(_OPSET_DOMAIN) and isinstance(version, int):
                        return version
        return None

    def floats(self, name: str) -> NDArray[np.float32] | None:
        """Decode a weight of float32; None if there is none of that name and type."""
        found = self._weight(name, FLOAT)
        return found and np.frombuffer(found[0], "<f4").astype(np.float32, copy=False).reshape(
            found[1]
        )

    def ints(self, name: str) -> NDArray[np.int64] | None:
        """Decode a weight of int64; None if there is none of that name and type."""
        found = self._weight(name, INT64)
        return found and np.frombuffer(found[0], "<i8").astype(np.int64, copy=False).reshape(
            found[1]
        )

    def _weight(self, name: str, wanted: int) -> tuple[memoryview, list[int]] | None:
        """Return the content and shape of a weight of the wanted type."""
        if name not in self.weights:
            return None
        dims: list[int] = []
        kind, raw = 0, None
        for number_, value in fields(memoryview(self.weights[name])):
            if number_ == _DIMS:
                dims += [value] if isinstance(value, int) else numbers(value)
            elif number_ == _DATA_TYPE and isinstance(value, int):
                kind = value
            elif number_ == _RAW_DATA and isinstance(value, memoryview):
                raw = value
        return (raw, dims) if raw is not None and kind == wanted else None

    def leave_out_unused(self) -> None:
        """Leave out the nodes, weights and descriptions that no output needs."""
        needed, nodes = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(filter(None, node.inputs))
                nodes.append(node)
        self.nodes = nodes[::-1]
        self.weights = {name: self.weights[name] for name in self.weights if name in needed}
        self.described = {name: self.described[name] for name in self.described if name in needed}

    def written(self) -> bytes:
        """Return the model as it is in protobuf."""
        graph: list[bytes | memoryview] = [
            with_length(_NODE, bytes(node.content)) for node in self.nodes
        ]
        for weight in self.weights.values():
            graph += [head(_INITIALIZER, len(weight)), weight]
        graph += self.rest
        graph += [with_length(_OUTPUT, bytes(value)) for value in self.outputs.values()]
        graph += [with_length(_VALUE_INFO, bytes(value)) for value in self.described.values()]
        content = [*self.around, head(_GRAPH_OF_MODEL, sum(map(len, graph))), *graph]
        return b"".join(content)


def made_graph(inputs: Mapping[str, Shape], outputs: Iterable[str], *, like: Graph) -> Graph:
    """Return an empty graph of float32 inputs in the versions of another graph."""
    rest = [with_length(_NAME, b"graph")]
    rest += [with_length(_INPUT, float_value(name, shape)) for name, shape in inputs.items()]
    return Graph(
        like.around,
        [],
        {},
        {name: with_length(_VALUE_NAME, name.encode()) for name in outputs},
        {},
        [memoryview(each) for each in rest],
    )


def tensor(name: str, value: Array) -> bytes:
    """Return a weight, float32 or int64, as it is in protobuf."""
    kind = INT64 if value.dtype == np.int64 else FLOAT
    dims = b"".join(number(_DIMS, size) for size in value.shape)
    content = value.tobytes()
    named = with_length(_TENSOR_NAME, name.encode())
    return dims + number(_DATA_TYPE, kind) + named + with_length(_RAW_DATA, content)


def float_value(name: str, shape: Shape) -> bytes:
    """Return the description of a float32 value as it is in protobuf; a size of None is N."""
    sizes = (with_length(_SYMBOL, b"N") if size is None else number(_SIZE, size) for size in shape)
    dimensions = b"".join(with_length(_DIMENSION, size) for size in sizes)
    content = number(_ELEMENT, FLOAT) + with_length(_SHAPE, dimensions)
    described = with_length(_VALUE_TYPE, with_length(_TENSOR, content))
    return with_length(_VALUE_NAME, name.encode()) + described


def _attribute(content: memoryview) -> tuple[str, Attribute, bool]:
    """Return an attribute's name, its value, and whether it contains graphs."""
    name, has_graphs = "", False
    value: Attribute = None
    for number_, found in fields(content):
        has_graphs |= number_ in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS)
        if number_ == _ATTRIBUTE_NAME and isinstance(found, memoryview):
            name = bytes(found).decode()
        elif number_ == _ATTRIBUTE_INT and isinstance(found, int):
            value = _signed(found)
        elif number_ == _ATTRIBUTE_BYTES and isinstance(found, memoryview):
            value = bytes(found)
        elif number_ == _ATTRIBUTE_INTS:
            more = [found] if isinstance(found, int) else numbers(found)
            before = value if isinstance(value, tuple) else ()
            value = (*before, *map(_signed, more))
    return name, value, has_graphs


def _written_attribute(name: str, value: Attribute) -> bytes:
    content = with_length(_ATTRIBUTE_NAME, name.encode())
    if isinstance(value, int):
        content += number(_ATTRIBUTE_INT, value) + number(_ATTRIBUTE_TYPE, _INT_ATTRIBUTE)
    elif isinstance(value, tuple):
        content += b"".join(number(_ATTRIBUTE_INTS, each) for each in value)
        content += number(_ATTRIBUTE_TYPE, _INTS_ATTRIBUTE)
    else:
        raise TypeError("a new node's attributes are numbers")
    return with_length(_ATTRIBUTE, content)


def _shape(value_info: memoryview) -> Shape:
    sizes: list[int | None] = []
    for of_value in _messages(value_info, _VALUE_TYPE):
        for of_tensor in _messages(of_value, _TENSOR):
            for shape in _messages(of_tensor, _SHAPE):
                for dimension in _messages(shape, _DIMENSION):
                    size = dict(fields(dimension)).get(_SIZE)
                    sizes.append(size if isinstance(size, int) else None)
    return tuple(sizes)


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number_, value in fields(message):
        if number_ == wanted and isinstance(value, memoryview):
            yield value


def _texts(message: memoryview, wanted: int) -> list[str]:
    return [bytes(value).decode() for value in _messages(message, wanted)]


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value
