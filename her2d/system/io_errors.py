"""Tell errors of the storage from errors of the file on it."""

import errno
from pathlib import Path

from her2d.system.filesystems import needs_polling

# The share is not mounted, the server is busy or permission is missing, so nothing is known about
# the slide. EIO is not among them, because a disk returns it for a lost sector (errno(3)) and a
# soft-mounted share for a server that does not answer (nfs(5)).
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
    """Return whether to wait for the file, instead of counting a failed attempt."""
    return error.errno in _AWAY


def is_forbidden(error: OSError) -> bool:
    """Return whether the system refuses access because of permissions."""
    return error.errno in (errno.EACCES, errno.EPERM)


def may_be_the_share(error: OSError, path: Path) -> bool:
    """Return whether the network, and not the disk, may have caused an I/O error on `path`."""
    if error.errno != errno.EIO:
        return False
    try:
        return needs_polling(path.parent, "auto")
    except OSError:
        return True


def is_gone(path: Path) -> bool:
    """Return whether the file certainly does not exist; one that is out of reach may exist."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False
