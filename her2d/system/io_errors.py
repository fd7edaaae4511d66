"""Errors that speak of the storage, not of the slide on it."""

import errno
from pathlib import Path

from her2d.system.filesystems import needs_polling

# The share went away, the server is busy, permission was taken: nothing is known about the slide.
# EIO is not among them: a disk returns it for a sector it has lost (errno(3)), and a soft-mounted
# share for a server that does not answer (nfs(5)).
_AWAY = frozenset(
    {
        errno.EACCES,
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOLCK,
        errno.ENOTCONN,
        errno.ENXIO,
        errno.EPERM,
        errno.ESHUTDOWN,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ETXTBSY,
    }
)


def is_away(error: OSError) -> bool:
    """Whether the file should be waited for rather than tried and given up."""
    return error.errno in _AWAY


def may_be_the_share(error: OSError, path: Path) -> bool:
    """Whether an I/O error on `path` may be the network's rather than the disk's."""
    if error.errno != errno.EIO:
        return False
    try:
        return needs_polling(path.parent, "auto")
    except OSError:
        return True


def is_gone(path: Path) -> bool:
    """Whether there is no such file, as far as can be told; one out of reach may well be there."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
