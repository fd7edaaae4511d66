"""What files look like at a moment, by which it is known later that they did not change."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

_LARGEST = 2**63 - 1  # SQLite's largest integer; some file systems store years after 2262


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What the files of a scan look like at a moment.

    Attributes:
        size: in bytes, of all files.
        mtime_ns: time of the last change to the content of the newest file.
        ctime_ns: time of the last change to a file, its name and its times included. No program
            can put it back, but moving a file changes it, too.
    """

    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, found: Sequence[os.stat_result]) -> Self:
        return cls(
            sum(each.st_size for each in found),
            _storable(max((each.st_mtime_ns for each in found), default=0)),
            _storable(max((each.st_ctime_ns for each in found), default=0)),
        )


def _storable(time_ns: int) -> int:
    return max(-_LARGEST, min(time_ns, _LARGEST))
