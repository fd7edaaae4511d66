"""Is the clock right? Times are part of every result."""

from datetime import UTC, datetime

from her2d import __version__
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.programs import NoAnswerError, answer_of

_WRITTEN_IN = 2026


def clock_finding() -> Finding:
    """Whether the year can be right, and whether a time server is followed (timedatectl(1))."""
    check = "clock"
    now = datetime.now(UTC)
    if now.year < _WRITTEN_IN:
        return failure(
            check,
            f"It says {now:%Y-%m-%d}, before her2d {__version__} was written.",
            "Set it, and let it follow a time server: timedatectl set-ntp true.",
        )
    try:
        synchronised = answer_of("timedatectl", "show", "--property=NTPSynchronized", "--value")
    except NoAnswerError as error:
        return warning(
            check,
            f"It says {now:%Y-%m-%d %H:%M} UTC. {error}",
            "systemctl status systemd-timedated",
        )
    if synchronised is not None and synchronised.strip() == "no":
        return warning(
            check,
            f"It says {now:%Y-%m-%d %H:%M} UTC and follows no time server.",
            "timedatectl set-ntp true",
        )
    return ok(check, f"It says {now:%Y-%m-%d %H:%M} UTC.")
