"""Days and times from the command line, converted to UTC as in the database."""

from datetime import UTC, date, datetime, time, timedelta

from her2d.cli.errors import UserError

SINCE = (
    "Only from this day or time on: 2026-03-01 or 2026-03-01T12:30, in local time unless it ends in"
    " an offset or Z."
)
UNTIL = "Only up to and including this day, or before this time."

_DAY_LENGTH = len("2026-03-01")


def first_moment(text: str | None) -> datetime | None:
    """Return the moment at which a day or time begins. Raises UserError."""
    return None if text is None else _in_utc(_parsed(text))


def moment_after(text: str | None) -> datetime | None:
    """Return the first moment after a day; a time is returned unchanged. Raises UserError."""
    if text is None:
        return None
    moment = _parsed(text)
    if len(text) != _DAY_LENGTH or moment.date() == date.max:
        return _in_utc(moment)
    # Not 24 hours later: a day has 23 or 25 where the clock is changed.
    return _in_utc(datetime.combine(moment.date() + timedelta(days=1), time()))


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"{text!r} is not a day or time. Write it as 2026-03-01 or 2026-03-01T12:30."
        ) from error


def _in_utc(moment: datetime) -> datetime:
    """Convert to UTC; a moment without an offset is local time."""
    try:
        return moment.astimezone(UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise UserError(f"{moment.date()} is too far away.") from error
