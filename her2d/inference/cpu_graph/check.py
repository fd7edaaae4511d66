"""Whether what replaces a part of a graph computes the same here, to the last bit."""

import math
import threading
from collections.abc import Mapping
from random import Random

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from her2d.inference.cpu_graph.replacement import Known, Replacement
from her2d.inference.onnx_graph import Node, Shape, made_graph, tensor
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_LOCK = threading.Lock()
_FOUND: dict[object, bool] = {}
"""By steps and shapes: with other weights, a library computes in the same order."""

_ERROR_SEVERITY = 3
_BEFORE = "before/"


def computes_the_same(known: Known, replacement: Replacement) -> bool:
    """Compute on random values what is replaced and what replaces it, and compare.

    Args:
        known: the graph.
        replacement: what replaces some of its nodes.

    Returns:
        False also if it reads a value whose shape the file does not name.
    """
    made = {output for node in replacement.nodes for output in node.outputs}
    given = {name for node in replacement.nodes for name in node.inputs}
    inputs: dict[str, Shape] = {}
    for name in sorted(given - made - set(replacement.weights)):
        if (pixels := known.pixels(name)) is None:
            return False
        inputs[name] = (1, *pixels)
    before = _nodes_between(known, inputs, replacement.outputs)
    key = _looks(known, replacement, before, inputs)
    with _LOCK:
        if key not in _FOUND:
            _FOUND[key] = _compare(known, replacement, before, inputs)
        return _FOUND[key]


def _nodes_between(
    known: Known, inputs: Mapping[str, Shape], outputs: tuple[str, ...]
) -> list[Node]:
    """Return the graph's nodes that compute some values from others."""
    needed, found = set(outputs), []
    for node in reversed(known.graph.nodes):
        if needed.intersection(node.outputs):
            needed.update(set(node.inputs) - set(inputs))
            found.append(node)
    return found[::-1]


def _looks(
    known: Known, replacement: Replacement, before: list[Node], inputs: Mapping[str, Shape]
) -> object:
    """Return what two comparisons have in common whose results cannot differ."""
    numbers: dict[str, int] = {}

    def look(name: str) -> object:
        weight = replacement.weights.get(name)
        if weight is None:
            weight = known.graph.ints(name)
        if weight is None:
            weight = known.graph.floats(name)
        if weight is None:
            return numbers.setdefault(name, len(numbers)), inputs.get(name)
        # Whole numbers are shapes and places.
        return weight.shape, weight.tobytes() if weight.dtype == np.int64 else None

    return tuple(
        (node.kind, tuple(sorted(node.attributes.items())), tuple(map(look, node.inputs)))
        for node in [*before, *replacement.nodes]
    )


def _compare(
    known: Known, replacement: Replacement, before: list[Node], inputs: Mapping[str, Shape]
) -> bool:
    names = {output: _BEFORE + output for node in before for output in node.outputs}
    wanted = list(replacement.outputs)
    graph = made_graph(inputs, [*wanted, *(_BEFORE + name for name in wanted)], like=known.graph)
    graph.nodes = [node.renamed(names) for node in before] + replacement.nodes
    graph.weights = dict(known.graph.weights)
    graph.weights |= {name: tensor(name, value) for name, value in replacement.weights.items()}
    graph.leave_out_unused()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR_SEVERITY
    options.enable_mem_pattern = False
    random = Random(0)  # numpy.random would have to be imported
    try:
        session = ort.InferenceSession(graph.written(), options, providers=["CPUExecutionProvider"])
        values = {name: _values(random, shape) for name, shape in inputs.items()}
        found = session.run(None, values)
    except Exception as error:  # noqa: BLE001  what it cannot compute stays as it was
        log.warning("graph_not_rewritten", value=wanted[0], reason=str(error))
        return False
    count = len(wanted)
    return all(map(np.array_equal, found[:count], found[count:]))


def _values(random: Random, shape: Shape) -> NDArray[np.float32]:
    """Return values of which many are equal and whose products have to be rounded."""
    sizes = [size or 1 for size in shape]
    whole = np.frombuffer(random.randbytes(math.prod(sizes)), np.int8)
    values = whole.astype(np.float32).reshape(sizes)
    values /= np.float32(37)
    return values
