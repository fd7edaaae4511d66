"""The daemon's machine as a second reader of a scan that a node could not read.

A node that cannot read a file may have a broken mount, which no file is to be blamed for, or the
storage has lost a part of the file, which fails on every machine. Another machine that reads the
same bytes tells which it is.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from her2d.processing.errors import UnreadableHereError
from her2d.processing.identity import Scan
from her2d.system.io_errors import is_away
from her2d.system.shortage import is_own_shortage


@contextmanager
def second_reader(scan: Scan, unreadable_on: Collection[str]) -> Iterator[None]:
    """Make an error of the storage one of the file, where another machine could not read it either.

    Args:
        scan: the open scan that the block reads.
        unreadable_on: the machines that could not read it before; with none the error stays.

    Raises:
        UnreadableHereError: the block met an error of the storage that the file may have caused.
    """
    try:
        yield
    except OSError as error:
        if not unreadable_on or is_away(error) or is_own_shortage(error):
            raise
        raise UnreadableHereError(scan.path.name, error.strerror or str(error)) from error
