"""Whether a stream is connected to systemd's journal, and the prefixes that give lines a priority.

The journal stores each line that a service prints. A line that begins with `<4>` is stored without
these characters, with the priority 4 (sd-daemon(3)); `journalctl -p warning` shows it then.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

_DEBUG, _INFO, _WARNING, _ERROR, _CRITICAL = 7, 6, 4, 3, 2


def is_journal(stream: Any, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether a stream is the one that systemd connected to the journal.

    JOURNAL_STREAM names its file (systemd.exec(5)). Children inherit the variable, also where their
    output goes elsewhere.
    """
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(stream.fileno())
        return (found.st_dev, found.st_ino) == (int(device), int(inode))
    except (OSError, ValueError, AttributeError):  # no such variable, a closed stream, or no file
        return False


def with_priority(text: str, level: int) -> str:
    """Return text whose lines all carry the priority of a level of `logging`."""
    prefix = f"<{_priority(level)}>"
    return "\n".join(prefix + line for line in text.split("\n"))


def _priority(level: int) -> int:
    for least, priority in (
        (logging.CRITICAL, _CRITICAL),
        (logging.ERROR, _ERROR),
        (logging.WARNING, _WARNING),
        (logging.INFO, _INFO),
    ):
        if level >= least:
            return priority
    return _DEBUG
