"""A link that all flows share evenly."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simpy import Environment

from tools.cluster_simulation.fair_link import FairLink


def ends(capacity: float, flows: list[tuple[float, float]], most_each: float = 1e9) -> list[float]:
    """Return when each flow ends, of flows that begin at a time with an amount."""
    env = Environment()
    link = FairLink(env, capacity, most_each)
    found = [0.0] * len(flows)

    def flow(number: int, at: float, amount: float):
        yield env.timeout(at)
        yield link.carry(amount)
        found[number] = env.now

    for number, (at, amount) in enumerate(flows):
        env.process(flow(number, at, amount))
    env.run()
    return found


def test_a_flow_alone_takes_the_whole_link_or_what_it_can():
    assert ends(10, [(2, 100)]) == [12]
    assert ends(10, [(2, 100)], most_each=5) == [22]


def test_flows_slow_each_other_only_while_they_are_there():
    # Until 10 s alone: 100 carried. Then by halves: the second ends at 10 + 2 * 5 = 20 s.
    assert ends(10, [(0, 200), (10, 50)]) == [pytest.approx(25), pytest.approx(20)]


def test_nothing_takes_no_time():
    assert ends(10, [(1, 0)]) == [1]


def test_an_abandoned_flow_makes_room():
    env = Environment()
    link = FairLink(env, 10)
    kept, left = link.carry(100), link.carry(100)

    def leave():
        yield env.timeout(4)
        link.abandon(left)

    env.process(leave())
    env.run(until=kept)
    assert env.now == pytest.approx(4 + 80 / 10)
    assert not left.triggered
    assert link.carried == pytest.approx(120)


def test_a_link_that_carries_nothing_is_refused():
    with pytest.raises(ValueError, match="must be able to carry"):
        FairLink(Environment(), 0)


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 50)), min_size=1, max_size=12),
    st.floats(0.5, 20),
)
def test_a_busy_link_carries_all_that_it_can(flows, capacity):
    """It is never idle while there is work: so the last end is that of any such server."""
    free_at = 0.0
    for at, amount in sorted(flows):
        free_at = max(free_at, at) + amount / capacity
    assert max(ends(capacity, flows)) == pytest.approx(free_at)
