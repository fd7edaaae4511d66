"""The time as the database stores it: UTC, ISO-8601 text with microseconds and a final Z."""

from datetime import UTC, datetime, timedelta


def now() -> str:
    """Return the current time as text."""
    return in_seconds(0)


def in_seconds(seconds: float) -> str:
    """Return the time `seconds` from now as text; a negative number is in the past."""
    return as_text(datetime.now(UTC) + timedelta(seconds=seconds))


def as_text(time: datetime) -> str:
    """Return `time`, which must be in UTC, as text that sorts by time."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
