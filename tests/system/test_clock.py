"""The time as text."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from her2d.system.clock import in_seconds, now

HUNDRED_YEARS_S = 3.15e9


def test_the_present_time_is_utc_with_microseconds_and_a_z():
    before = datetime.now(UTC)
    text = now()
    assert len(text) == len("2026-01-01T00:00:00.000000Z")
    assert text.endswith("Z")
    assert before <= datetime.fromisoformat(text) <= datetime.now(UTC)


@given(st.floats(-HUNDRED_YEARS_S / 4, HUNDRED_YEARS_S))
def test_a_future_time_is_the_given_number_of_seconds_ahead(seconds):
    found = datetime.fromisoformat(in_seconds(seconds))
    assert abs(found - datetime.now(UTC) - timedelta(seconds=seconds)) < timedelta(seconds=60)


@given(st.floats(0, HUNDRED_YEARS_S), st.floats(1, HUNDRED_YEARS_S))
def test_later_times_sort_after_earlier_ones_as_text(seconds, more):
    assert in_seconds(seconds) < in_seconds(seconds + more)
