"""The time as it is stored, and as people read and write it."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from her2d.cli.errors import UserError
from her2d.cli.periods import first_moment, moment_after
from her2d.system.clock import in_seconds, local_day, local_time, local_times, now

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


@pytest.fixture
def zone(monkeypatch):
    """Set TZ for this process; it is as before afterwards."""

    def zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "stored", "read"),
    [
        ("UTC", "2026-11-28T13:03:59.900000Z", "2026-11-28 13:03 UTC"),
        ("Europe/Berlin", "2026-11-28T13:03:59.900000Z", "2026-11-28 14:03 +01:00"),
        ("Europe/Berlin", "2026-06-28T13:03:00.000000Z", "2026-06-28 15:03 +02:00"),
        ("Asia/Kathmandu", "2026-12-31T18:30:00.000000Z", "2027-01-01 00:15 +05:45"),
        ("America/St_Johns", "2026-01-01T01:00:00.000000Z", "2025-12-31 21:30 -03:30"),
        ("Asia/Shanghai", "2026-11-28T13:03:00+00:00", "2026-11-28 21:03 +08:00"),
        ("Europe/London", "2026-11-28T13:03:00.000000Z", "2026-11-28 13:03 +00:00"),
        ("Europe/Berlin", "2026-11-28T13:03:00", "2026-11-28 14:03 +01:00"),
    ],
)
def test_people_read_local_time_and_which_it_is(zone, name, stored, read):
    zone(name)
    assert local_time(stored) == read


def test_the_hour_that_daylight_saving_repeats_is_told_apart_by_its_offset(zone):
    zone("Europe/Berlin")
    assert local_time("2026-10-25T00:30:00.000000Z") == "2026-10-25 02:30 +02:00"
    assert local_time("2026-10-25T01:30:00.000000Z") == "2026-10-25 02:30 +01:00"


def test_times_of_one_zone_name_it_once_and_times_of_two_each(zone):
    zone("Europe/Berlin")
    winter, summer = "2026-12-01T08:00:00.000000Z", "2026-07-01T08:00:00.000000Z"
    assert local_times([winter, ""]) == ("+01:00", ["2026-12-01 09:00", ""])
    assert local_times([winter, summer], seconds=True) == (
        "",
        ["2026-12-01 09:00:00 +01:00", "2026-07-01 10:00:00 +02:00"],
    )
    assert local_times([]) == ("", [])


def test_the_day_is_the_local_one(zone):
    zone("Asia/Shanghai")
    assert local_day("2026-11-28T20:00:00.000000Z") == "2026-11-29"


def test_what_is_stored_is_utc_in_every_zone(zone):
    zone("Asia/Shanghai")
    assert abs(datetime.fromisoformat(now()) - datetime.now(UTC)) < timedelta(seconds=60)


@pytest.mark.parametrize(
    ("given", "first", "after"),
    [
        ("2026-03-01", "2026-02-28T23:00", "2026-03-01T23:00"),
        ("2026-03-29", "2026-03-28T23:00", "2026-03-29T22:00"),  # 23 hours
        ("2026-10-25", "2026-10-24T22:00", "2026-10-25T23:00"),  # 25 hours
        ("2026-07-01T12:30", "2026-07-01T10:30", "2026-07-01T10:30"),
        ("2026-07-01T12:30Z", "2026-07-01T12:30", "2026-07-01T12:30"),
        ("2026-07-01T12:30+05:00", "2026-07-01T07:30", "2026-07-01T07:30"),
    ],
)
def test_days_and_times_of_the_command_line_are_local(zone, given, first, after):
    zone("Europe/Berlin")
    assert first_moment(given) == datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert moment_after(given) == datetime.fromisoformat(after).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "given"),
    [("Asia/Shanghai", "0001-01-01"), ("America/Los_Angeles", "9999-12-31T23:00")],
)
def test_a_time_that_is_in_no_year_of_utc_is_refused_in_one_sentence(zone, name, given):
    zone(name)
    with pytest.raises(UserError, match=rf"^{given[:10]} is too far away\.$"):
        first_moment(given)


def test_the_last_day_there_is_can_be_given(zone):
    zone("UTC")
    assert moment_after("9999-12-31") == datetime(9999, 12, 31, tzinfo=UTC)
