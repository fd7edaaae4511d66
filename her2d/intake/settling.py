"""When is a file finished? Decisions only: no file is opened here, no clock asked."""

from dataclasses import dataclass, replace
from enum import StrEnum

from her2d.system.file_identity import FileState

_LOOKS_WHILE_SETTLING = 10
_SHORTEST_LOOK_S = 0.1


class Completeness(StrEnum):
    """What the structural check says of a file."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A structural check's finding, with its reason unless complete."""

    completeness: Completeness
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds.

    Attributes:
        settle_s: a file must be unchanged for so long before it is looked into.
        overdue_s: one that is unchanged and incomplete for longer is reported.
    """

    settle_s: float
    overdue_s: float

    @property
    def look_s(self) -> float:
        """From one look at a file's size and time to the next."""
        return max(_SHORTEST_LOOK_S, self.settle_s / _LOOKS_WHILE_SETTLING)


@dataclass(frozen=True, slots=True)
class Watch:
    """What is known of one settling file, on a clock that never jumps.

    Times of the file itself count for nothing but being the same as before: scanners' and shares'
    clocks go wrong, and copies keep old times.
    """

    state: FileState
    unchanged_since: float
    look_at: float

    @classmethod
    def begun(cls, state: FileState, now: float, patience: Patience) -> "Watch":
        return cls(state, now, now + patience.look_s)

    def seen(self, state: FileState, now: float, patience: Patience) -> "Watch":
        """The watch after a look: anew where the file changed."""
        if state != self.state:
            return Watch.begun(state, now, patience)
        return replace(self, look_at=now + patience.look_s)

    def is_still(self, now: float, patience: Patience) -> bool:
        """Whether the file has been unchanged for long enough to be looked into."""
        return now - self.unchanged_since >= patience.settle_s

    def is_overdue(self, now: float, patience: Patience) -> bool:
        """Whether an incomplete file has been so for longer than a scanner pauses."""
        return now - self.unchanged_since > patience.overdue_s

    def put_off(self, now: float, patience: Patience) -> "Watch":
        """Still incomplete: there is no use in opening it again at once."""
        return replace(self, look_at=now + patience.settle_s)
