"""Read scans for their hashes, at idle priority."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import Self

from her2d.processing.identity import Scan
from her2d.system.linux import be_idle


class IdleHashing:
    """Threads that read files, which must not slow the scanner that writes the next one."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix="her2d-hash", initializer=be_idle
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True)

    def content_hash(self, scan: Scan, on_progress: Callable[[], None] = lambda: None) -> str:
        """Return the scan's content hash; see `SlideProcessor.content_hash`."""
        return self._pool.submit(copy_context().run, scan.content_hash, on_progress).result()
