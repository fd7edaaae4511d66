"""What to do about a file or folder that the checking user may not use."""

import errno
import os
from pathlib import Path

from her2d.doctor.finding import Finding, failure
from her2d.system.ownership import access_hint, forbidden_folder, name_of_user


def user() -> str:
    """Return the name of the user whose permissions are checked."""
    return name_of_user(os.geteuid()).removeprefix("#")  # chown(1) takes a plain number


def closed(check: str, path: Path, *, as_service: bool) -> Finding:
    """Return the finding that `path` cannot be accessed.

    Args:
        check: what was checked.
        path: a file or folder that her2d owns in a sound installation.
        as_service: whether the user whose permissions are checked runs the daemon, and so should
            own the path. Another user is told whom to ask.
    """
    return failure(
        check, f"User {user()} cannot access {path}.", remedy(path, as_service=as_service)
    )


def remedy(path: Path, *, as_service: bool) -> str:
    """Return what gives the user access to a path that her2d should own."""
    barred = forbidden_folder(path)
    if barred is not None and barred != path.parent:
        return (
            f"Let that user enter {barred} (chmod o+x {barred}), or set another path in"
            " config.toml."
        )
    place = barred or path
    if as_service or _owner(place) == 0:
        return f"If a command run as root created it, run sudo chown -R {user()}: {_pattern(place)}"
    return access_hint(place)


def not_writable(check: str, folder: Path, there: Path, error: OSError) -> Finding:
    """Return the finding that no file can be created in `there`, the part of `folder` that exists.

    The remedy depends on the cause: an owner, a disk that is full or read-only, a file in the way.
    """
    message = f"User {user()} cannot write to {there}: {error.strerror}."
    match error.errno:
        case errno.EROFS:
            what = f"Mount the file system of {there} for writing, or set another folder."
        case errno.ENOSPC | errno.EDQUOT:
            what = "Delete files there, or set another folder in config.toml."
        case errno.ENOTDIR | errno.EEXIST:
            what = f"Move the file {there} away, or set another folder in config.toml."
        case _ if there == folder:
            what = f"Run sudo chown {user()}: {there}, or set another folder in config.toml."
        case _:
            what = (
                f"Run sudo install -d -o {user()} -m 750 {folder}, or set another folder in"
                " config.toml."
            )
    return failure(check, message, what)


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _pattern(path: Path) -> str:
    """Return the path; of a file, together with those that SQLite and the lock put beside it."""
    try:
        return str(path) if path.is_dir() else f"{path}*"
    except OSError:
        return str(path)
