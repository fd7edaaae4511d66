"""Read the accounts that the simulated driver writes when a process that used it ends."""

import json
from pathlib import Path

_WORK = ("launches", "calls", "uploads")


def accounts(report: Path) -> list[dict[str, int]]:
    """Read one account for each process, in the order in which they ended."""
    return [json.loads(line) for line in report.read_text().splitlines()]


def left_or_wrong(account: dict[str, int]) -> dict[str, int]:
    """Return counts of resources left on the device and of calls that the driver forbids."""
    return {name: n for name, n in account.items() if n != 0 and name not in _WORK}


def has_worked(account: dict[str, int]) -> bool:
    """Return whether tiles were uploaded and kernels run both directly and as graphs."""
    return all(account[name] for name in _WORK)
