"""Write files and folders so that they are either complete or absent, also after a power cut.

Files that hold results are readable by their owner and group at most, and the process's umask
can only take permissions away.
"""

import errno
import io
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PRIVATE = 0o640
"""Permissions of files that hold results: owner and group."""
PUBLIC = 0o666
"""Permissions of files for other programs, such as exports: those that the umask leaves."""

_LONGEST_WRITE_S = 600.0


def create_file(path: Path, mode: int = PRIVATE) -> int:
    """Create a file that does not exist, never through a link, and return its descriptor.

    Args:
        path: the file to create.
        mode: its permissions, from which the umask takes away.

    Returns:
        A descriptor for reading and writing, which the caller closes.

    Raises:
        FileExistsError: there is a file or a link at `path`.
        OSError: the file cannot be created.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)


def private_opener(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=...)`: never through a link, and private if it is new."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)


def read_bounded(path: Path, most_bytes: int = 64_000_000) -> bytes:
    """Return the content of a file or pipe that a person named, which may be endless.

    Raises:
        OSError: it cannot be read, or has more than `most_bytes` (EFBIG).
    """
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return content


def open_table(path: Path) -> io.StringIO:
    """Open a CSV file that a person named, for `csv.reader`; it may begin with a byte order mark.

    Raises:
        OSError: as for `read_bounded`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return io.StringIO(read_bounded(path).decode("utf-8-sig"), newline="")


def make_folder(folder: Path) -> None:
    """Create a folder and those above it, so that they survive a power cut.

    Raises:
        OSError: a folder cannot be created.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        flush_folder(new.parent)


@contextmanager
def replacing(path: Path, part: Path | None = None, *, mode: int = PUBLIC) -> Iterator[Path]:
    """Write a file under a temporary name, which becomes `path` when the block ends.

    The file is flushed to the disk before it is renamed, and its folder afterwards. If the block
    or a later step fails, the temporary file is deleted and `path` is as it was.

    Args:
        path: the file to create or to replace, in a folder that exists.
        part: the temporary name, in the same folder; None for a random one. What a killed process
            left there is deleted.
        mode: the file's permissions, from which the umask takes away.

    Yields:
        The temporary name of an empty file. The block must write to it, or replace it.

    Raises:
        OSError: the file cannot be written or renamed.
    """
    if part is None:
        part = path.with_name(f".{secrets.token_hex(8)}{path.suffix}.part")
    part.unlink(missing_ok=True)
    os.close(create_file(part, mode))
    try:
        yield part
        flush_file(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_whole(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Write `data` to `path` with `replacing`.

    Args:
        path: the file to create or to replace. Its folder is created if it does not exist.
        data: its new content.
        mode: its permissions, from which the umask takes away.

    Raises:
        OSError: the file cannot be written.
    """
    make_folder(path.parent)
    with replacing(path, mode=mode) as part:
        part.write_bytes(data)


def replace_folder(path: Path, part: Path) -> None:
    """Rename the folder `part` to `path`, once all its files are flushed to the disk.

    A folder that had the name is renamed just before, and deleted afterwards: a process that is
    killed meanwhile leaves the old folder, none, or the new one, and never a part of one.

    Args:
        path: the folder to create or to replace.
        part: a complete folder on the same file system.

    Raises:
        OSError: a file cannot be flushed, or a folder cannot be deleted or renamed.
    """
    old = path.with_name(f".{path.name}.old")
    if old.exists():  # a killed process left it, which may be the only whole one
        if path.exists():
            shutil.rmtree(old)
        else:
            old.replace(path)
    for folder, _, names in os.walk(part):
        for name in names:
            flush_file(Path(folder, name))
        flush_folder(Path(folder))
    if path.exists():
        path.replace(old)
    try:
        part.replace(path)
    except OSError:
        if old.exists():
            old.replace(path)
        raise
    flush_folder(path.parent)
    if old.exists():
        shutil.rmtree(old)


def flush_file(path: Path) -> None:
    """Write a file's content from memory to the disk.

    Raises:
        OSError: the file cannot be opened, or the disk refused.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # CIFS flushes for writers only
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Write the names in a folder from memory to the disk, so that a rename survives a power cut.

    Some network shares cannot do this; there it does nothing.

    Raises:
        OSError: the folder cannot be opened, or the disk refused.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> list[Path]:
    """Delete temporary files that killed processes left in `folder`.

    Files younger than ten minutes stay, because another process may still write them (`her2d scan`
    runs beside the daemon).

    Returns:
        The deleted files.

    Raises:
        OSError: a file cannot be examined or deleted.
    """
    oldest = time.time() - _LONGEST_WRITE_S
    leftovers = [path for path in folder.glob(".*.part") if path.stat().st_mtime < oldest]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return leftovers
