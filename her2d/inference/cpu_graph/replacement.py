"""What is replaced in a graph, and what a rule needs to know of the graph."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TypeAlias

import numpy as np

from her2d.inference.onnx_graph import Array, Graph, Node, tensor


@dataclass(slots=True)
class Replacement:
    """Nodes that compute some values of a graph in another way.

    Attributes:
        outputs: the graph's values that they compute.
        nodes: each behind those that compute its inputs.
        weights: what they need beside the graph's values.
        adds_up: whether they compute sums, which are rounded according to the order of their terms.
    """

    outputs: tuple[str, ...]
    nodes: list[Node] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    adds_up: bool = False
    _names: int = 0

    def add(
        self, kind: str, inputs: tuple[str, ...], *outputs: str, **attributes: int | tuple[int, ...]
    ) -> str:
        """Add a node and return the name of its first output, which is made up if none is given."""
        outputs = outputs or (self._unused(),)
        self.adds_up |= kind == "Conv"
        self.nodes.append(Node.made(kind, inputs, outputs, **attributes))
        return outputs[0]

    def several(self, count: int) -> tuple[str, ...]:
        """Return names for values."""
        return tuple(self._unused() for _ in range(count))

    def weight(self, value: Array) -> str:
        """Add a weight and return its name."""
        name = self._unused()
        self.weights[name] = value
        return name

    def ints(self, *values: int) -> str:
        """Add int64 (K,) and return its name."""
        return self.weight(np.array(values, np.int64))

    def _unused(self) -> str:
        self._names += 1
        return f"{self.outputs[0]}/{self._names}"


Replacements: TypeAlias = Iterator[Replacement]


class Known:
    """A graph, which node makes each value, and which nodes read it.

    Args:
        graph: must not change meanwhile.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._made = {output: node for node in graph.nodes for output in node.outputs}
        self._readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self._readers.setdefault(name, []).append(node)

    def made(self, value: str, kind: str) -> Node | None:
        """Return the node of this kind that makes a value; None if none does."""
        node = self._made.get(value)
        return node if node is not None and node.kind == kind else None

    def readers(self, value: str) -> list[Node]:
        """Return the nodes that read a value, once for each input."""
        return self._readers.get(value, [])

    def only_reader(self, value: str) -> Node | None:
        """Return the one node that reads a value, once; None if there are others, or outputs."""
        found = self.readers(value)
        return found[0] if len(found) == 1 and value not in self.graph.outputs else None

    def pixels(self, value: str) -> tuple[int, int, int] | None:
        """Return channels, height and width of a value (N, C, H, W), if the file names them."""
        shape = self.graph.shape(value)
        if len(shape) != 4 or None in shape[1:]:
            return None
        channels, height, width = (size or 0 for size in shape[1:])
        return channels, height, width

    def ints(self, value: str) -> list[int] | None:
        """Return the numbers of an int64 weight; None if it is none."""
        found = self.graph.ints(value)
        if found is None:
            return None
        listed: list[int] = found.flatten().tolist()
        return listed


def applied(graph: Graph, replacements: list[Replacement]) -> None:
    """Replace nodes of a graph, and leave out what no output needs any more.

    All else, order and descriptions too, stays as it was: by these ONNX Runtime decides which
    convolution it adds to which, and rounds accordingly.
    """
    new = {each.outputs[0]: each for each in replacements}
    replaced = {output for each in replacements for output in each.outputs}
    nodes: list[Node] = []
    for node in graph.nodes:
        for output in node.outputs:
            if output in new:
                nodes += new[output].nodes
        if not replaced.intersection(node.outputs):
            nodes.append(node)
    for each in replacements:
        graph.weights |= {name: tensor(name, value) for name, value in each.weights.items()}
    graph.nodes = _in_order(nodes)
    graph.leave_out_unused()


def _in_order(nodes: list[Node]) -> list[Node]:
    """Return nodes each behind those that compute its inputs, and else in the order given."""
    # An empty name stands for each optional value that is left out.
    made = {output for node in nodes for output in node.outputs if output}
    waiting = [set(node.inputs) & made for node in nodes]
    readers: dict[str, list[int]] = {}
    for number, names in enumerate(waiting):
        for name in names:
            readers.setdefault(name, []).append(number)
    ready = [number for number, names in enumerate(waiting) if not names]
    ordered = []
    while ready:
        node = nodes[heappop(ready)]
        ordered.append(node)
        for output in node.outputs:
            for number in readers.get(output, ()):
                waiting[number].remove(output)
                if not waiting[number]:
                    heappush(ready, number)
    return ordered
