"""Check that the file at an original's path is still the scan that was processed.

A scanner may reuse a name, and a person may copy another scan over it. Its pixels would then be
shown as those of the slide. A file with the size and the times that were recorded when its content
was hashed is the same. A file with another size is another one. Otherwise its content is compared,
once for each state of the file, in a separate thread, because a scan has gigabytes.
"""

import os
import stat
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from her2d.errors import Her2dError
from her2d.processing.identity import scan_hash
from her2d.slides.formats.parts import scan_files
from her2d.system.file_identity import FileStamp
from her2d.system.linux import be_idle

_VERDICTS = 4096
_COMPARING = 16  # at the same time or waiting


class ScanMissing(Her2dError):  # noqa: N818  the name is the problem
    """The original scan cannot be shown; `str(error)` says why in one sentence."""


class ScanReplaced(ScanMissing):
    """Another file is where the original scan was."""


class ScanUnverified(ScanMissing):
    """Whether the file is the original scan is not known yet."""


@dataclass(frozen=True, slots=True)
class RecordedOriginal:
    """A slide's file as recorded; `stamp` is None if it is unknown."""

    path: str
    content_hash: str
    stamp: FileStamp | None


@dataclass(frozen=True, slots=True)
class FileKey:
    """One file as it is now: any change to it changes its key."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


ScanKey = tuple[FileKey, ...]
"""All files of a scan as they are now."""


class Originals:
    """The original scans of slides. Safe to use from several threads."""

    def __init__(self) -> None:
        # At idle priority, so that comparing does not slow a scanner or the daemon.
        self._threads = ThreadPoolExecutor(1, "her2d-compare", initializer=be_idle)
        self._digests: LRUCache[ScanKey, Future[str]] = LRUCache(_VERDICTS)
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def verify(self, recorded: RecordedOriginal, *, wait_s: float = 0.0) -> ScanKey:
        """Return the state of an original scan that is the one which was processed.

        Args:
            recorded: what is known of it.
            wait_s: how long to wait if its content has to be compared.

        Raises:
            ScanMissing: it cannot be read.
            ScanReplaced: another file is in its place.
            ScanUnverified: its content is still being compared.
        """
        path = Path(recorded.path)
        found = _examine(path)
        key, now, then = _key(found), FileStamp.of(found), recorded.stamp
        if now == then:
            return key
        if then is not None and then.size != now.size:
            raise _replaced(path)
        if self._digest(path, key, wait_s) != recorded.content_hash:
            raise _replaced(path)
        return key

    def close(self) -> None:
        """End the comparisons."""
        self._closing.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _digest(self, path: Path, key: ScanKey, wait_s: float) -> str:
        """Return the content hash of a scan. Raises ScanMissing, ScanUnverified."""
        with self._lock:
            computed = self._digests.get(key)
            if computed is None:
                unfinished = sum(not each.done() for each in self._digests.values())
                if unfinished >= _COMPARING:
                    raise _unverified(path)
                computed = self._threads.submit(self._compute, path, key)
                self._digests[key] = computed
        try:
            return computed.result(wait_s)
        except TimeoutError as error:
            if not computed.done():
                raise _unverified(path) from error
            self._forget(key)
            raise ScanMissing(f"The original scan at {path} cannot be read.") from error
        except ScanUnverified:
            self._forget(key)
            raise
        except (OSError, Her2dError) as error:
            self._forget(key)
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise ScanMissing(f"The original scan at {path} cannot be read ({reason}).") from error

    def _compute(self, path: Path, key: ScanKey) -> str:
        digest = scan_hash(path, on_progress=self._stop_if_closing)
        if _key(_examine(path)) != key:
            raise _unverified(path)  # it changed meanwhile
        return digest

    def _forget(self, key: ScanKey) -> None:
        with self._lock:
            self._digests.pop(key, None)

    def _stop_if_closing(self) -> None:
        if self._closing.is_set():
            raise InterruptedError("the server ends")


def _examine(path: Path) -> list[os.stat_result]:
    """Examine all files of the scan at `path`. Raises ScanMissing."""
    try:
        first = path.stat()
        if not (stat.S_ISREG(first.st_mode) or stat.S_ISDIR(first.st_mode)):
            raise _replaced(path)
        return [file.stat() for file in scan_files(path)]
    except OSError as error:
        raise ScanMissing(
            f"The original scan cannot be found at {path} ({error.strerror})."
        ) from error
    except ValueError as error:  # a path that no file can have
        raise ScanMissing(f"The original scan cannot be found at {path} ({error}).") from error


def _key(found: list[os.stat_result]) -> ScanKey:
    return tuple(
        FileKey(each.st_dev, each.st_ino, each.st_size, each.st_mtime_ns, each.st_ctime_ns)
        for each in found
    )


def _replaced(path: Path) -> ScanReplaced:
    return ScanReplaced(
        f"The file at {path} is not the scan that was processed: the original was replaced or"
        " changed."
    )


def _unverified(path: Path) -> ScanUnverified:
    return ScanUnverified(
        f"The file at {path} is being compared with the scan that was processed, because it was"
        " moved, copied or changed."
    )
