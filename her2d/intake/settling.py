"""When a file is finished.

Only decisions are made here. No file is opened and no clock is read.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from her2d.system.file_identity import FileState

_CHECKS_WHILE_SETTLING = 10
_SHORTEST_CHECK_INTERVAL_S = 0.1


class Completeness(StrEnum):
    """Whether all of a file is there, as its structure shows."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BROKEN = "broken"
    FORBIDDEN = "forbidden"
    """The daemon's user may not read it; nothing is known about the file."""


class WhenOverdue(StrEnum):
    """What happens to a file that stays incomplete and unchanged for `incomplete_after_s`."""

    WAIT = "wait"
    """It is reported and waited for, because what it lacks may come without a change of it."""
    TAKE = "take"
    """It is queued as it is, because what is there can be read."""
    QUARANTINE = "quarantine"
    """It is quarantined, because nothing of it can be read; a change makes it a new job."""


@dataclass(frozen=True, slots=True)
class Settledness:
    """How settled a file is, as its structure shows.

    Attributes:
        completeness: whether all of it is there.
        reason: why it is not, None for a complete file.
        when_overdue: what happens to the file if it stays incomplete.
    """

    completeness: Completeness
    reason: str | None = None
    when_overdue: WhenOverdue = WhenOverdue.WAIT


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        settle_s: how long a file must be unchanged before its structure is checked.
        overdue_s: an incomplete file that is unchanged for longer than this is not waited for.
    """

    settle_s: float
    overdue_s: float

    @property
    def check_interval_s(self) -> float:
        """The time between two checks of a file's size and modification time."""
        return max(_SHORTEST_CHECK_INTERVAL_S, self.settle_s / _CHECKS_WHILE_SETTLING)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of one settling file; times are read from a clock that never jumps.

    The file's own modification time is only compared with its previous value, because scanners'
    and shares' clocks can be wrong and copies keep old times.

    Attributes:
        state: the file's size, modification time and inode at the last check.
        unchanged_since: when that state was first seen.
        check_at: when to check the file again.
    """

    state: FileState
    unchanged_since: float
    check_at: float

    @classmethod
    def begin(cls, state: FileState, now: float, patience: Patience) -> "Watch":
        """Start watching a file that has just been found or has just changed."""
        return cls(state, now, now + patience.check_interval_s)

    def checked(self, state: FileState, now: float, patience: Patience) -> "Watch":
        """Return the watch after a check; it starts again if the file has changed."""
        if state != self.state:
            return Watch.begin(state, now, patience)
        return replace(self, check_at=now + patience.check_interval_s)

    def is_still(self, now: float, patience: Patience) -> bool:
        """Return whether the file has been unchanged for long enough to check its structure."""
        return now - self.unchanged_since >= patience.settle_s

    def is_overdue(self, now: float, patience: Patience) -> bool:
        """Return whether an incomplete file has been unchanged for longer than a scanner pauses."""
        return now - self.unchanged_since > patience.overdue_s

    def postponed(self, now: float, patience: Patience) -> "Watch":
        """Return the watch with its next check `settle_s` from now."""
        return replace(self, check_at=now + patience.settle_s)
