"""Moving a file so that a crash at any moment leaves it whole in at least one place."""

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
from her2d.system.files import flush_folder

_CHUNK_BYTES = 1 << 20


class SourceChangedError(Her2dError):
    """The file is not the one that was to be moved; it was left where it is."""


class QueuedAgainError(SourceChangedError):
    """The file is wanted where it is; it was left there."""


class CopyDiffersError(Her2dError, OSError):
    """What was written is not what was read; the original was left where it is."""


def free_name(target: Path) -> Path:
    """`target`, or the first of NAME.1.tif, NAME.2.tif... that is not taken."""
    names = (target.with_stem(f"{target.stem}.{number}") for number in count(1))
    return target if not target.exists() else next(name for name in names if not name.exists())


def part_of(target: Path) -> Path:
    """Where a copy to `target` grows; what an interrupted one left there is overwritten.

    Its name is short however long the target's is, which may have as many bytes as names can.
    """
    digest = hashlib.blake2b(os.fsencode(target.name), digest_size=8).hexdigest()
    return target.with_name(f".{digest}.part")


def move(
    source: Path, target: Path, expected: FileState, *, beat: Callable[[], None] = lambda: None
) -> None:
    """Move a file to a name that is free, or that an interrupted move of the same file reserved.

    On one file system this is a rename, which is atomic; across two, a copy that is flushed to
    disk and read back before the original goes (rename(2), fsync(2)). `beat` is called at every
    MiB and before the original goes; what it raises ends the move, which the next one for the same
    target begins anew.

    Raises:
        SourceChangedError: the file at `source` is not the `expected` one.
        CopyDiffersError: the copy cannot be read back as it was written.
        OSError: the source cannot be read, the target not be written, or the name is taken.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _require(source, expected)
    _reserve(target)
    try:
        source.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target, expected, beat)
        return
    if not FileState.of(target).same_file(expected):
        # Another scan took its place between the look and the move: it goes back to be found.
        target.replace(source)
        raise SourceChangedError(f"{source.name} was replaced while it was moved.")
    flush_folder(target.parent)
    flush_folder(source.parent)


def abandon(target: Path) -> None:
    """Remove what an interrupted move left: its part, and the empty file that holds its name.

    Whatever else has that name stays. Raises OSError where it cannot be looked for or removed.
    """
    part_of(target).unlink(missing_ok=True)
    with suppress(FileNotFoundError):  # it was not reserved yet
        if target.lstat().st_size == 0:
            target.unlink()


def remove(source: Path, expected: FileState) -> None:
    """Delete a file that lies elsewhere by now.

    Raises:
        SourceChangedError: the file at `source` is not the `expected` one; it stays.
        OSError: it cannot be deleted.
    """
    _require(source, expected)
    source.unlink()
    flush_folder(source.parent)


def _copy(source: Path, target: Path, expected: FileState, beat: Callable[[], None]) -> None:
    part = part_of(target)
    digest = hashlib.blake2b(digest_size=32)
    with source.open("rb") as original, part.open("wb") as copy:
        while chunk := original.read(_CHUNK_BYTES):
            digest.update(chunk)
            copy.write(chunk)
            beat()
        copy.flush()
        os.fsync(copy.fileno())
        # Without this the check below would read memory, not the disk.
        os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if content_hash(part, beat=beat) != f"blake2b:{digest.hexdigest()}":
        part.unlink()
        raise CopyDiffersError(errno.EIO, "the copy differs from the original", str(target))
    shutil.copystat(source, part)
    part.replace(target)
    flush_folder(target.parent)
    try:
        beat()
        remove(source, expected)
    except SourceChangedError:
        target.unlink()
        raise


def _reserve(target: Path) -> None:
    """Take the name, so that the rename replaces nothing but this empty file."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    except FileExistsError:
        if target.stat().st_size > 0:
            raise


def _require(source: Path, expected: FileState) -> None:
    if source.is_symlink() or not FileState.of(source).same_file(expected):
        raise SourceChangedError(f"{source.name} is another file by now.")
