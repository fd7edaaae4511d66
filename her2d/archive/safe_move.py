"""Move a file so that it is complete in at least one place whenever a crash happens."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from her2d.errors import Her2dError
from her2d.system.file_identity import FileState, content_hash
from her2d.system.files import create_file, flush_folder, make_folder, private_opener

_CHUNK_BYTES = 1 << 20


class SourceChangedError(Her2dError):
    """The file is not the one that was to be moved; it was left in place."""


class QueuedAgainError(SourceChangedError):
    """The file was queued again; it was left in place."""


class CopyDiffersError(Her2dError, OSError):
    """The copy differs from the original, which was left in place."""


def free_name(target: Path) -> Path:
    """Return `target`, or the first of NAME.1.tif, NAME.2.tif... that does not exist."""
    names = (target.with_stem(f"{target.stem}.{number}") for number in count(1))
    if not os.path.lexists(target):
        return target
    return next(name for name in names if not os.path.lexists(name))


def part_of(target: Path) -> Path:
    """Return the path that a copy to `target` is written to before it is renamed.

    A part left by an interrupted copy is overwritten. The name is always short, because the
    target's name may already be as long as the file system allows.
    """
    digest = hashlib.blake2b(os.fsencode(target.name), digest_size=8).hexdigest()
    return target.with_name(f".{digest}.part")


def move(
    source: Path,
    target: Path,
    expected: FileState,
    *,
    on_progress: Callable[[], None] = lambda: None,
) -> None:
    """Move a file to a path that is free, or that an interrupted move of the same file reserved.

    Within one file system this is an atomic rename. Between two, it is a copy that is flushed to
    disk and read back before the original is deleted (rename(2), fsync(2)).

    Args:
        source: the file.
        target: its new path.
        expected: the state of the file that is to be moved.
        on_progress: called at every MiB, and before the original is deleted. An exception that it
            raises ends the move, and the next move to the same target starts again.

    Raises:
        SourceChangedError: the file at `source` is not the `expected` one.
        CopyDiffersError: reading the copy back gave different content.
        OSError: the source cannot be read, the target cannot be written, or the target exists.
    """
    make_folder(target.parent)
    _require(source, expected)
    _reserve(target)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target, expected, on_progress)
        return
    if not FileState.of(target).same_file(expected):
        # A new scan replaced the file before the rename: move it back, so that a sweep finds it.
        target.replace(source)
        raise SourceChangedError(f"{source.name} was replaced while it was moved.")
    flush_folder(target.parent)
    flush_folder(source.parent)


def remove_leftovers(target: Path) -> None:
    """Delete what an interrupted move left: its part, and the empty file that reserves the name.

    A file with content at `target` stays.

    Raises:
        OSError: the leftovers cannot be accessed or deleted.
    """
    part_of(target).unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # the name was not reserved yet
        if target.lstat().st_size == 0:
            target.unlink()


def remove(source: Path, expected: FileState) -> None:
    """Delete an original that has been copied.

    Raises:
        SourceChangedError: the file at `source` is not the `expected` one; it stays.
        OSError: the file cannot be deleted.
    """
    _require(source, expected)
    source.unlink()
    flush_folder(source.parent)


def _copy(source: Path, target: Path, expected: FileState, on_progress: Callable[[], None]) -> None:
    part = part_of(target)
    digest = hashlib.blake2b(digest_size=32)
    with source.open("rb") as original, open(part, "wb", opener=private_opener) as copy:
        while chunk := original.read(_CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
            on_progress()
        copy.flush()
        os.fsync(copy.fileno())
        # Without this, the check below would read the page cache instead of the disk.
        os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if content_hash(part, on_progress=on_progress) != f"blake2b:{digest.hexdigest()}":
        part.unlink()
        raise CopyDiffersError(errno.EIO, "the copy differs from the original", str(target))
    shutil.copystat(source, part)
    part.replace(target)
    flush_folder(target.parent)
    try:
        on_progress()
        remove(source, expected)
    except SourceChangedError:
        target.unlink()
        raise


def _reserve(target: Path) -> None:
    """Create an empty file at `target`, the only file that the rename may replace."""
    try:
        os.close(create_file(target))
    except FileExistsError:
        if target.is_symlink() or target.stat().st_size > 0:
            raise


def _require(source: Path, expected: FileState) -> None:
    if source.is_symlink() or not FileState.of(source).same_file(expected):
        raise SourceChangedError(f"{source.name} has changed or was replaced.")
