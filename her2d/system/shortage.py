"""Tell a shortage of this process from the fault of a file: threads, memory, descriptors."""

import errno
import sqlite3

from her2d.errors import Her2dError

_NUMBERS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
# CPython raises a plain RuntimeError with this text: Modules/_threadmodule.c.
_NO_THREAD = "can't start new thread"
_OPENCV_NO_MEMORY = -4  # cv::Error::StsNoMem


class OwnShortageError(Her2dError):
    """The process lacks something to work with; the file that it worked on is not the cause."""


def is_own_shortage(error: BaseException | None) -> bool:
    """Return whether an error, or a cause of it, is a shortage of this process."""
    return _shortage_in(error) is not None


def shortage_of(error: BaseException) -> str:
    """Return what the process lacks, for a sentence."""
    at = _shortage_in(error)
    if isinstance(at, OSError) and at.errno in (errno.EMFILE, errno.ENFILE):
        return "descriptors of open files"
    if isinstance(at, RuntimeError | OwnShortageError):
        return "threads or processes"
    return "memory"


def _shortage_in(error: BaseException | None) -> BaseException | None:
    """Return the first of an error and its causes that is a shortage."""
    while error is not None and not _is_shortage(error):
        error = error.__cause__
    return error


def _is_shortage(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in _NUMBERS
    if isinstance(error, sqlite3.Error):
        return (getattr(error, "sqlite_errorcode", 0) & 0xFF) == sqlite3.SQLITE_NOMEM
    if isinstance(error, RuntimeError):
        return _NO_THREAD in str(error)
    if isinstance(error, MemoryError | OwnShortageError):
        return True
    return type(error).__module__ == "cv2" and getattr(error, "code", None) == _OPENCV_NO_MEMORY
