"""How the number of engines follows the slides that wait: laws, whatever the backlog does."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from her2d.cluster.scaling import Scale, ScalingRules, rescaled

rules = st.builds(
    ScalingRules,
    least=st.integers(0, 8),
    most=st.integers(1, 8),
    slides_per_engine=st.integers(1, 4),
    release_after_s=st.floats(0.1, 1000),
)
backlogs = st.integers(0, 60)
# (seconds since the last look, backlog)
days = st.lists(st.tuples(st.floats(0, 400), backlogs), max_size=40)


def history(day: list[tuple[float, int]], limits: ScalingRules) -> list[tuple[float, int, Scale]]:
    """Return time, backlog and decision of each look."""
    now, scale, found = 0.0, Scale(), []
    for passed, backlog in day:
        now += passed
        scale = rescaled(scale, backlog, now, limits)
        found.append((now, backlog, scale))
    return found


@given(day=days, limits=rules)
def test_there_are_always_enough_engines_and_never_more_than_allowed(day, limits):
    for _, backlog, scale in history(day, limits):
        assert limits.needed(backlog) <= scale.engines <= limits.most
        assert scale.engines >= min(limits.least, limits.most)


@given(day=days, limits=rules)
def test_no_engine_is_released_that_was_needed_a_short_while_ago(day, limits):
    needed: list[tuple[float, int]] = []
    before = 0
    for now, backlog, scale in history(day, limits):
        if scale.engines < before:
            recently = [n for at, n in needed if now - at < limits.release_after_s]
            assert scale.engines >= max([*recently, limits.needed(backlog)])
        needed.append((now, limits.needed(backlog)))
        before = scale.engines


@given(day=days, limits=rules, backlog=backlogs)
def test_a_backlog_that_stays_gets_exactly_the_engines_that_it_needs(day, limits, backlog):
    steady = [(0.0, backlog), *[(limits.release_after_s * 1.01, backlog)] * 2]
    assert history([*day, *steady], limits)[-1][2].engines == limits.needed(backlog)


@given(
    limits=rules,
    high=backlogs,
    low=backlogs,
    period=st.floats(0.01, 0.49),
)
def test_bursts_that_come_again_soon_keep_their_engines(limits, high, low, period):
    high, low = max(high, low), min(high, low)
    step = limits.release_after_s * period
    bursts = [(step, backlog) for _ in range(20) for backlog in (high, low)]
    assert {scale.engines for _, _, scale in history(bursts, limits)} == {limits.needed(high)}


@given(day=days, limits=rules)
def test_engines_are_released_no_more_often_than_once_in_the_time_that_they_are_kept(day, limits):
    found = history(day, limits)
    released = [
        now for (_, _, before), (now, _, scale) in pairwise(found) if scale.engines < before.engines
    ]
    for first, second in pairwise(released):
        assert second - first >= limits.release_after_s * 0.999


def test_the_last_engine_is_released_where_none_is_kept_and_started_for_one_slide():
    limits = ScalingRules(least=0, most=4, slides_per_engine=2, release_after_s=60)
    found = history([(0, 1), (1, 0), (59, 0), (1, 0), (1, 3)], limits)
    assert [scale.engines for _, _, scale in found] == [1, 1, 1, 0, 2]
