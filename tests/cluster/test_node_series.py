"""The series of nodes in the metrics: few, whatever nodes come and go."""

import pytest

from her2d.cluster.node_series import NodeSeries
from her2d.cluster.plan import NodeStatus
from her2d.monitoring.reading import NodeReading


def node(number: int, **counts: float) -> NodeStatus:
    return NodeStatus(str(number), f"host-{number}", "usable", 1, **counts)  # type: ignore[arg-type]


def names(series: NodeSeries) -> list[str]:
    return [reading.name for reading in series.reading]


def test_a_node_has_a_series_of_its_name_while_it_lives():
    series = NodeSeries()
    series.update([node(1, slides=2, scored=3, lost=1, busy_s=1.5)])
    assert series.reading == (NodeReading("host-1", 1, 2, 3, 1, 1.5),)
    series.update([])
    assert series.reading == ()


def test_nodes_beyond_the_limit_share_one_series_whose_counts_never_fall():
    series = NodeSeries(most=2)
    series.update([node(number, scored=10) for number in range(5)])
    assert names(series) == ["host-0", "host-1", "other"]
    assert series.reading[-1] == NodeReading("other", 3, scored=30)
    series.update([node(0, scored=11), node(4, scored=12)])
    assert series.reading == (
        NodeReading("host-0", 1, scored=11),
        NodeReading("other", 1, scored=32),
    )


def test_a_name_is_free_for_a_new_node_when_its_node_is_gone_and_others_keep_theirs():
    series = NodeSeries(most=2)
    series.update([node(1), node(2), node(3)])
    series.update([node(2), node(3), node(4)])
    assert sorted(names(series)) == ["host-2", "host-4", "other"]


def test_however_many_nodes_come_and_go_the_number_of_series_is_bounded():
    series = NodeSeries()
    for first in range(0, 5000, 50):
        series.update([node(number) for number in range(first, first + 120)])
        assert len(series.reading) <= 33


def test_two_nodes_of_one_host_are_one_series():
    series = NodeSeries()
    series.update([NodeStatus("a", "host", "usable", 1), NodeStatus("b", "host", "usable", 2)])
    assert series.reading == (NodeReading("host", 3),)


@pytest.mark.parametrize("gone", ["a", "b"])
def test_the_series_of_a_host_goes_on_while_one_of_its_nodes_lives(gone):
    series = NodeSeries()
    both = [NodeStatus(id_, "host", "usable", 1, scored=5) for id_ in ("a", "b")]
    series.update(both)
    series.update([status for status in both if status.id != gone])
    assert series.reading == (NodeReading("host", 1, scored=10),)
