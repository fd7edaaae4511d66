"""Is the clock right? Times are part of every result."""

import shutil
import subprocess
from datetime import UTC, datetime

from her2d import __version__
from her2d.checkup.finding import Finding, failure, ok, warning

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
    if shutil.which("timedatectl") is None:
        return ok(check, f"It says {now:%Y-%m-%d %H:%M} UTC.")
    found = subprocess.run(
        ["timedatectl", "show", "--property=NTPSynchronized", "--value"],
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    if found.stdout.strip() == "no":
        return warning(
            check,
            f"It says {now:%Y-%m-%d %H:%M} UTC and follows no time server.",
            "timedatectl set-ntp true",
        )
    return ok(check, f"It says {now:%Y-%m-%d %H:%M} UTC.")
