"""Days and times from the command line, converted to UTC as in the database."""

from datetime import UTC, datetime, timedelta

from her2d.cli.errors import UserError

SINCE = "Only from this day or time on (UTC): 2026-03-01 or 2026-03-01T12:30."
UNTIL = "Only up to and including this day, or before this time (UTC)."

_DAY_LENGTH = len("2026-03-01")


def first_moment(text: str | None) -> datetime | None:
    """Return the moment at which a day or time begins. Raises UserError."""
    return None if text is None else _moment(text)


def moment_after(text: str | None) -> datetime | None:
    """Return the first moment after a day; a time is returned unchanged. Raises UserError."""
    if text is None:
        return None
    moment = _moment(text)
    try:
        return moment + timedelta(days=1) if len(text) == _DAY_LENGTH else moment
    except OverflowError:
        return moment  # the last day that there is; nothing is after it


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"{text!r} is not a day or time. Write it as 2026-03-01 or 2026-03-01T12:30."
        ) from error
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as error:
        raise UserError(f"{text!r} is not a time between the years 1 and 9999 in UTC.") from error
