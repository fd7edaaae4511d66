"""Duplicates: scans whose bytes were already processed under any file name."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlite_utils import Database

from her2d.processing.errors import DuplicateScanError
from her2d.results.queries import slide_with_result

_WAIT_S = 0.2


def refuse_duplicate(db: Database, content_hash: str, bundle_digest: str) -> None:
    """Raise DuplicateScanError if the content has a result by this bundle."""
    slide_id = slide_with_result(db, content_hash, bundle_digest)
    if slide_id is not None:
        raise DuplicateScanError(slide_id, content_hash)


class ContentLocks:
    """One lock for each content, so that copies that arrive together are processed in turn."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, content_hash: str, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold a content's lock, waiting for the thread that has it.

        Args:
            content_hash: the content.
            on_wait: called several times a second while waiting; what it raises ends the wait.
        """
        with self._changed:
            while content_hash in self._held:
                on_wait()
                self._changed.wait(_WAIT_S)
            self._held.add(content_hash)
        try:
            yield
        finally:
            with self._changed:
                self._held.discard(content_hash)
                self._changed.notify_all()
