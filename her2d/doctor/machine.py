"""Check the machine's clock, because every result contains times."""

from datetime import UTC, datetime

from her2d import __version__
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.doctor.programs import NoAnswerError, output_of
from her2d.system.clock import local_time

_RELEASE_YEAR = 2026


def clock_finding() -> Finding:
    """Check whether the year is plausible and the clock is synchronised (timedatectl(1))."""
    check = "clock"
    now = datetime.now(UTC)
    time = f"The time is {local_time(now.isoformat())}"
    if now.year < _RELEASE_YEAR:
        return failure(
            check,
            f"The date is {now:%Y-%m-%d}, before her2d {__version__} was released.",
            "Set the clock, and synchronise it with a time server: timedatectl set-ntp true",
        )
    try:
        synchronised = output_of("timedatectl", "show", "--property=NTPSynchronized", "--value")
    except NoAnswerError as error:
        return warning(
            check,
            f"{time}. {error}",
            "Run systemctl status systemd-timedated.",
        )
    if synchronised is not None and synchronised.strip() == "no":
        return warning(
            check,
            f"{time}, and is not synchronised with a time server.",
            "Run timedatectl set-ntp true.",
        )
    return ok(check, f"{time}.")
