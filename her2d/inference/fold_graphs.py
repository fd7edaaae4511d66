"""Divide the graph of the five sub-classifiers into one graph for each of them.

A bundle's `classifiers.onnx` normalises a tile, runs five networks and joins their probabilities at
its end. A divided graph has the same nodes and weights, without those that only the other four
need, so that it computes the same. The weights are copied as they are and never decoded.
"""

from collections.abc import Iterator

from her2d.inference.engine import CLASSIFIERS_OUTPUTS
from her2d.inference.onnx_graph import Graph, Node, float_value
from her2d.method import FOLDS

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
        graph = Graph.read(model)
    except (IndexError, ValueError):
        return None
    if not _joins_folds(graph):
        return None
    return (_of_fold(graph, value) for value in graph.nodes[-1].inputs)


def _joins_folds(graph: Graph) -> bool:
    """Whether the last step joins five values side by side."""
    if not graph.nodes or len(graph.outputs) != 1:
        return False
    last = graph.nodes[-1]
    return (
        last.kind == "Concat"
        and last.outputs == (_JOINED,)
        and last.attributes.get("axis") == 1
        and len(set(last.inputs)) == FOLDS
        and not any(node.has_graphs for node in graph.nodes)
    )


def _of_fold(graph: Graph, value: str) -> bytes:
    joins = Node.made("Concat", (value,), (_JOINED,), axis=1)
    part = Graph(
        graph.around,
        [*graph.nodes[:-1], joins],
        graph.weights,
        {_JOINED: float_value(_JOINED, (None, 1))},
        graph.described,
        graph.rest,
    )
    part.leave_out_unused()
    return part.written()
