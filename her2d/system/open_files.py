"""Open files below a folder without following links, and keep them by their descriptors.

A path is resolved each time that it is used. A user who may rename a folder on its way can put a
link to another folder in its place, and a file that was checked is then not the one that is read,
moved or deleted.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from her2d.errors import Her2dError
from her2d.system.files import flush_folder

_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class NotAFileError(Her2dError, OSError):
    """There is a link on the way to a file, or something else in its place.

    `error.strerror` continues the sentence "FILE ...".
    """


@contextmanager
def open_folder(folder: Path, below: Path | None = None) -> Iterator[int]:
    """Open a folder for functions that take a `dir_fd`; its names can be used and not listed.

    Args:
        folder: the folder.
        below: a folder above it; links from there on are not followed. None follows every link.

    Yields:
        Its descriptor, which is closed when the block ends.

    Raises:
        NotAFileError: a link or a file is in the place of a folder.
        OSError: a folder is missing or cannot be opened.
    """
    descriptor = os.open(below or folder, _FOLDER)
    try:
        for name in folder.relative_to(below).parts if below is not None else ():
            outer = descriptor
            try:
                descriptor = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=outer)
            except NotADirectoryError as error:
                _refuse_link(name, outer, error)
                raise
            os.close(outer)
        yield descriptor
    finally:
        os.close(descriptor)


def open_file(name: str, folder: int) -> int:
    """Open a regular file in an open folder for reading, and never wait on a pipe.

    Args:
        name: the file's name.
        folder: descriptor of its folder.

    Returns:
        The file's descriptor, which the caller closes.

    Raises:
        NotAFileError: it is a link, a folder, a pipe, a socket or a device.
        OSError: it is missing or cannot be opened.
    """
    _refuse_link(name, folder)
    if not stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        raise NotAFileError(errno.EINVAL, "is not a regular file", name)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFileError(errno.EINVAL, "is not a regular file", name)
    return descriptor


def flush_open_folder(descriptor: int) -> None:
    """Do what `her2d.system.files.flush_folder` does with a folder that is open already."""
    flush_folder(path_of_open_file(descriptor))


def path_of_open_file(descriptor: int) -> Path:
    """Return a path at which libraries of this process can open the file again."""
    return Path(f"/proc/self/fd/{descriptor}")


def _refuse_link(name: str, folder: int, cause: OSError | None = None) -> None:
    """Raise NotAFileError if what has the name is a link."""
    if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        reason = "lies behind a link, and links in an inbox are not followed"
        raise NotAFileError(errno.ELOOP, reason, name) from cause
