"""Nodes as metrics show them: their series are few, however many nodes come and go."""

from collections.abc import Iterable
from dataclasses import replace

from her2d.cluster.plan import NodeStatus
from her2d.monitoring.reading import NodeReading

_MOST_NAMED = 32
_OTHER = "other"


class NodeSeries:
    """Adds up what each node has done, by its name; the nodes beyond the limit share one name.

    A name is free again when its node is gone. The shared one stays, because Prometheus would take
    a sum that falls for a new count. `update` is called by one thread; any may read.
    """

    def __init__(self, most: int = _MOST_NAMED) -> None:
        self._most = most
        self._named: dict[str, str] = {}  # a node's id -> the name of its series
        self._known: dict[str, NodeStatus] = {}
        self._series: dict[str, NodeReading] = {}

    @property
    def reading(self) -> tuple[NodeReading, ...]:
        """The series as they were updated last."""
        return tuple(self._series.values())

    def update(self, nodes: Iterable[NodeStatus]) -> None:
        """Take note of all living nodes."""
        living = {node.id: node for node in nodes}
        self._named = {id_: name for id_, name in self._named.items() if id_ in living}
        kept = {*self._named.values(), _OTHER}
        series = {
            name: replace(reading, engines=0, slides=0)
            for name, reading in self._series.items()
            if name in kept
        }
        for node in living.values():
            name = self._named.setdefault(node.id, self._name_for(node))
            series[name] = _with(
                series.get(name, NodeReading(name)), node, self._known.get(node.id, _new(node))
            )
        self._known, self._series = living, series

    def _name_for(self, node: NodeStatus) -> str:
        names = set(self._named.values()) - {_OTHER}
        return node.name if node.name in names or len(names) < self._most else _OTHER


def _new(node: NodeStatus) -> NodeStatus:
    return NodeStatus(node.id, node.name, node.state)


def _with(reading: NodeReading, node: NodeStatus, before: NodeStatus) -> NodeReading:
    """Add a node to its series; its counts only grow as long as it is known."""
    return NodeReading(
        reading.name,
        reading.engines + node.actors,
        reading.slides + node.slides,
        reading.scored + node.scored - before.scored,
        reading.lost + node.lost - before.lost,
        reading.busy_s + node.busy_s - before.busy_s,
    )
