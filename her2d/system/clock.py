"""The time as the database stores it, and as people read it.

The database and files for programs have UTC as ISO-8601 text with microseconds and a final Z.
Tables, pages and sentences have local time (the variable TZ, else the machine's zone) and say so.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

_MINUTES = "%Y-%m-%d %H:%M"
_SECONDS = "%Y-%m-%d %H:%M:%S"


def now() -> str:
    """Return the current time as text."""
    return in_seconds(0)


def in_seconds(seconds: float) -> str:
    """Return the time `seconds` from now as text; a negative number is in the past."""
    return as_text(datetime.now(UTC) + timedelta(seconds=seconds))


def as_text(time: datetime) -> str:
    """Return `time`, which must be in UTC, as text that sorts by time."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def local_time(text: str, *, seconds: bool = False) -> str:
    """Return a stored time as local time with its zone, such as "2026-11-28 14:03 +01:00".

    An hour that daylight saving repeats has another offset the second time.

    Args:
        text: ISO-8601; UTC unless it has an offset.
        seconds: include them.
    """
    local = _local(text)
    return f"{local:{_SECONDS if seconds else _MINUTES}} {_zone(local)}"


def local_times(texts: Sequence[str], *, seconds: bool = False) -> tuple[str, list[str]]:
    """Return the zone that all stored times have, and the times in it without the zone.

    Where their zones differ, the zone is "" and each time has its own. A time that is "" stays "".
    """
    times = [local_time(text, seconds=seconds) if text else "" for text in texts]
    zones = {time.rpartition(" ")[2] for time in times if time}
    if len(zones) != 1:
        return "", times
    return zones.pop(), [time.rpartition(" ")[0] for time in times]


def local_day(text: str) -> str:
    """Return the local day of a stored time, such as "2026-11-28"."""
    return _local(text).date().isoformat()


def _local(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).astimezone()


def _zone(local: datetime) -> str:
    """Return "UTC" or the offset: abbreviations such as CST mean several zones."""
    return "UTC" if local.tzname() == "UTC" else local.isoformat(timespec="minutes")[16:]
