"""Rewrite a graph by rules.

What computes sums is compared on this machine with what it replaces, before it is used.
"""

from collections.abc import Callable
from typing import TypeAlias

from her2d.inference.cpu_graph.check import computes_the_same
from her2d.inference.cpu_graph.narrow import greater_logits, joined_stems, two_rows_at_once
from her2d.inference.cpu_graph.pooling import unpooling_by_positions
from her2d.inference.cpu_graph.replacement import Known, Replacements, applied
from her2d.inference.onnx_graph import Graph
from her2d.system.cpus import computes_512_bits

# What the shipped graphs and those of our exporter are written in.
_OPSETS = (17, 18)
Rule: TypeAlias = Callable[[Known], Replacements]

_RULES: tuple[Rule, ...] = (unpooling_by_positions,)
_RULES_OF_NARROW_LAYERS: tuple[Rule, ...] = (greater_logits, joined_stems, two_rows_at_once)


def rewritten(model: bytes) -> bytes | None:
    """Rewrite a bundle's graph for ONNX Runtime on this machine's CPU.

    Args:
        model: the content of an ONNX file.

    Returns:
        A graph that computes exactly the same; None where no rule fits, or the content is not a
        graph that this reads.
    """
    try:
        graph = Graph.read(model)
        if graph.opset not in _OPSETS or any(node.has_graphs for node in graph.nodes):
            return None
        changes = [_changed_by(rule, graph) for rule in _rules()]
    except (IndexError, ValueError):
        return None
    return graph.written() if any(changes) else None


def _rules() -> tuple[Rule, ...]:
    return _RULES + (_RULES_OF_NARROW_LAYERS if computes_512_bits() else ())


def _changed_by(rule: Rule, graph: Graph) -> bool:
    known = Known(graph)
    found = [each for each in rule(known) if not each.adds_up or computes_the_same(known, each)]
    if found:
        applied(graph, found)
    return bool(found)
