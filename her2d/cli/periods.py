"""Days and times as people type them, in UTC as the database keeps them."""

from datetime import UTC, datetime, timedelta

from her2d.cli.errors import UserError

SINCE = "From this day or time on (UTC), such as 2026-03-01 or 2026-03-01T12:30."
UNTIL = "Up to this day, the day included, or before this time (UTC)."

_DAY_LENGTH = len("2026-03-01")


def first_moment(text: str | None) -> datetime | None:
    """The moment a day or time begins. Raises UserError."""
    return None if text is None else _moment(text)


def moment_after(text: str | None) -> datetime | None:
    """The first moment after a day, or a time itself. Raises UserError."""
    if text is None:
        return None
    moment = _moment(text)
    return moment + timedelta(days=1) if len(text) == _DAY_LENGTH else moment


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(
            f"{text!r} is no day or time; write 2026-03-01 or 2026-03-01T12:30."
        ) from error
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
