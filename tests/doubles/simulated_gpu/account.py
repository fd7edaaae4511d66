"""What the simulated driver says of each process that used it, once that has ended."""

import json
from pathlib import Path

_WORK = ("launches", "calls", "uploads")


def accounts(report: Path) -> list[dict[str, int]]:
    """One for each process, in the order in which they ended."""
    return [json.loads(line) for line in report.read_text().splitlines()]


def left_or_wrong(account: dict[str, int]) -> dict[str, int]:
    """What is still on the device, and what was asked of it that the driver forbids."""
    return {name: n for name, n in account.items() if n != 0 and name not in _WORK}


def has_worked(account: dict[str, int]) -> bool:
    """Whether tiles were uploaded, and kernels run plainly and as graphs."""
    return all(account[name] for name in _WORK)
