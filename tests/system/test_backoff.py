"""Waits between attempts."""

from hypothesis import given
from hypothesis import strategies as st

from her2d.system.backoff import Backoff

seconds = st.floats(1e-3, 1e6)
attempts = st.integers(1, 10_000)


@given(seconds, seconds, st.floats(0, 1), attempts)
def test_a_wait_is_at_most_the_longest_wait(first_s, longest_s, jitter, attempts):
    assert Backoff(first_s, longest_s, jitter).wait_s(attempts) <= longest_s


@given(seconds, seconds, attempts, attempts)
def test_without_jitter_a_later_attempt_does_not_wait_less(first_s, longest_s, one, other):
    backoff = Backoff(first_s, longest_s)
    earlier, later = sorted((one, other))
    assert backoff.wait_s(earlier) <= backoff.wait_s(later)


@given(seconds, st.floats(1, 1e6), st.floats(0, 0.9), attempts)
def test_jitter_changes_a_wait_by_at_most_its_fraction(first_s, ratio, jitter, attempts):
    longest_s = first_s * ratio * (1 + jitter)
    plain = Backoff(first_s, longest_s / (1 + jitter)).wait_s(attempts)
    wait = Backoff(first_s, longest_s, jitter).wait_s(attempts)
    tolerance = 1e-9 * plain
    assert plain * (1 - jitter) - tolerance <= wait <= plain * (1 + jitter) + tolerance


def test_each_wait_is_twice_the_one_before_until_the_longest():
    backoff = Backoff(first_s=60, longest_s=3600)
    assert [backoff.wait_s(attempts) for attempts in range(1, 9)] == [
        60,
        120,
        240,
        480,
        960,
        1920,
        3600,
        3600,
    ]


def test_attempts_that_failed_together_are_not_repeated_together():
    backoff = Backoff(first_s=30, longest_s=60, jitter=0.25)
    assert len({backoff.wait_s(1) for _ in range(20)}) == 20
