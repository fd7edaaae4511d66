"""Errors that speak of the storage, not of the slide on it."""

import errno

# The share went away, the server is busy, permission was taken: nothing is known about the slide.
# EIO is not among them: a disk returns it for a sector it has lost (errno(3)).
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
