"""Move a file so that it is complete in at least one place whenever a crash happens."""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

from her2d.errors import Her2dError
from her2d.system.file_identity import FileState, content_hash, hash_of_open_file
from her2d.system.files import create_file, flush_folder, make_folder, private_opener
from her2d.system.open_files import (
    NotAFileError,
    flush_open_folder,
    open_file,
    open_folder,
    path_of_open_file,
)

_CHUNK_BYTES = 1 << 20
_CLOSED = -1


class SourceChangedError(Her2dError):
    """The file is not the one that was to be moved; it was left in place."""


class QueuedAgainError(SourceChangedError):
    """The file was queued again; it was left in place."""


class ContentChangedError(SourceChangedError):
    """The file was written to since its content was known; it was left in place."""


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


@dataclass(frozen=True, slots=True)
class Original:
    """The file that is to be moved, and how to recognise it.

    Attributes:
        path: where it is.
        state: its state when its content was known.
        content_hash: of its content; None if it was never read.
        inbox: the folder that it must be in, without a link on the way; None if it may be anywhere.
    """

    path: Path
    state: FileState
    content_hash: str | None = None
    inbox: Path | None = None


def move(
    original: Original, target: Path, *, on_progress: Callable[[], None] = lambda: None
) -> None:
    """Move a file to a path that is free, or that an interrupted move of the same file reserved.

    Within one file system this is an atomic rename. Between two, it is a copy that is flushed to
    disk and read back before the original is deleted (rename(2), fsync(2)).

    Args:
        original: the file.
        target: its new path.
        on_progress: called at every MiB, and before the original is deleted. An exception that it
            raises ends the move, and the next move to the same target starts again.

    Raises:
        ContentChangedError: the file was written to since its content was known.
        SourceChangedError: there is another file, or a link, in its place.
        CopyDiffersError: reading the copy back gave different content.
        OSError: the source cannot be read, the target cannot be written, or the target exists.
    """
    make_folder(target.parent)
    with _opened(original) as source:
        source.require_same_content(on_progress)
        _reserve(target)
        try:
            os.rename(source.name, target, src_dir_fd=source.folder)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(source, target, on_progress)
            return
        if not FileState.from_stat(target.lstat()).same_file(source.state_now()):
            # A new scan replaced the file before the rename: move it back for a sweep to find.
            os.rename(target, source.name, dst_dir_fd=source.folder)
            raise SourceChangedError(f"{source.name} was replaced while it was moved.")
        flush_folder(target.parent)
        flush_open_folder(source.folder)


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


def remove(original: Original, *, on_progress: Callable[[], None] = lambda: None) -> None:
    """Delete an original that has been copied.

    Raises:
        SourceChangedError: the file at its path is not the original; it stays.
        OSError: the file cannot be read or deleted.
    """
    with _opened(original) as source:
        source.require_same_content(on_progress)
        source.delete(original.content_hash)


@dataclass(slots=True)
class _Source:
    """An original that is open, in a folder that is open.

    Attributes:
        original: the file.
        folder, descriptor: descriptors of the folder and of the file.
        opened_as: the file's state when it was opened.
    """

    original: Original
    folder: int
    descriptor: int
    opened_as: FileState

    @property
    def name(self) -> str:
        return self.original.path.name

    def require_same_content(self, on_progress: Callable[[], None]) -> None:
        """Raise ContentChangedError if the content may have changed, and has."""
        known = self.original.content_hash
        if known is None or self.opened_as.is_surely_unchanged(self.original.state):
            return
        if hash_of_open_file(self.descriptor, on_progress=on_progress) != known:
            raise ContentChangedError(f"{self.name} was written to since it was scored.")

    def state_now(self) -> FileState:
        return FileState.from_stat(os.fstat(self.descriptor))

    def delete(self, content: str | None) -> None:
        """Delete the file, which is not used afterwards.

        Args:
            content: the hash that its content must still have if it was touched since it was
                opened; None if that is not known.

        Raises:
            SourceChangedError: it was written to or replaced; it stays.
        """
        there = FileState.from_stat(os.stat(self.name, dir_fd=self.folder, follow_symlinks=False))
        if not there.same_file(self.opened_as) or not (
            content is None
            or there.is_unchanged(self.opened_as)
            or hash_of_open_file(self.descriptor) == content
        ):
            raise SourceChangedError(f"{self.name} was replaced while it was moved.")
        # NFS and FUSE keep a deleted file under another name for as long as it is open.
        os.close(self.descriptor)
        self.descriptor = _CLOSED
        os.unlink(self.name, dir_fd=self.folder)
        flush_open_folder(self.folder)


@contextmanager
def _opened(original: Original) -> Iterator[_Source]:
    """Open the file if it is the original. Raises SourceChangedError if it is not, and OSError."""
    path = original.path
    try:
        with open_folder(path.parent, original.inbox) as folder:
            descriptor = open_file(path.name, folder)
            state = FileState.from_stat(os.fstat(descriptor))
            source = _Source(original, folder, descriptor, state)
            try:
                if not state.same_file(original.state):
                    raise SourceChangedError(f"{path.name} has changed or was replaced.")
                yield source
            finally:
                if source.descriptor != _CLOSED:
                    os.close(source.descriptor)
    except NotAFileError as error:
        raise SourceChangedError(f"{path.name} {error.strerror}.") from error


def _copy(source: _Source, target: Path, on_progress: Callable[[], None]) -> None:
    part = part_of(target)
    with open(part, "wb", opener=private_opener) as copy:
        digest = _copy_content(source.descriptor, copy, on_progress)
        copy.flush()
        os.fsync(copy.fileno())
        # Without this, the check below would read the page cache instead of the disk.
        os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if content_hash(part, on_progress=on_progress) != digest:
        part.unlink()
        raise CopyDiffersError(errno.EIO, "the copy differs from the original", str(target))
    if source.original.content_hash not in (None, digest):
        part.unlink()
        raise ContentChangedError(f"{source.name} was written to since it was scored.")
    shutil.copystat(path_of_open_file(source.descriptor), part)
    part.replace(target)
    flush_folder(target.parent)
    try:
        on_progress()
        source.delete(digest)
    except SourceChangedError:
        target.unlink()
        raise


def _copy_content(source: int, copy: IO[bytes], on_progress: Callable[[], None]) -> str:
    """Copy an open file from its beginning, and return its content hash."""
    digest = hashlib.blake2b(digest_size=32)
    at = 0
    while chunk := os.pread(source, _CHUNK_BYTES, at):
        digest.update(chunk)
        copy.write(chunk)
        at += len(chunk)
        on_progress()
    return f"blake2b:{digest.hexdigest()}"


def _reserve(target: Path) -> None:
    """Create an empty file at `target`, the only file that the rename may replace."""
    try:
        os.close(create_file(target))
    except FileExistsError:
        if target.is_symlink() or target.stat().st_size > 0:
            raise
