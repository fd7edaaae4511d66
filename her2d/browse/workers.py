"""Threads for the work of requests, for each kind of work its own few.

Work that takes long, such as a search or a tile from a slow share, can only keep work of the same
kind waiting.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from her2d.errors import Her2dError

Result = TypeVar("Result")


class TooBusy(Her2dError):  # noqa: N818  the name is the problem
    """Too much work of one kind is waiting, or it takes too long."""


class Workers:
    """Threads for one kind of work.

    Args:
        kind: what they do, for the names of the threads.
        threads: how much is done at the same time.
        waiting: how much may wait for a thread.
        timeout_s: how long waiting and work may take together.
    """

    def __init__(self, kind: str, *, threads: int, waiting: int, timeout_s: float) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=f"her2d-{kind}")
        self._most = threads + waiting
        self._timeout_s = timeout_s
        self._accepted = 0

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do some work in a thread. Raises TooBusy, and what the work raises."""
        if self._accepted >= self._most:
            raise TooBusy("Too many requests of this kind are waiting. Try again in a moment.")
        self._accepted += 1
        try:
            done = asyncio.get_running_loop().run_in_executor(self._threads, work)
            return await asyncio.wait_for(done, self._timeout_s)
        except TimeoutError as error:
            raise TooBusy(
                f"There was no answer within {self._timeout_s:g} s. Other requests or the storage"
                " may be slow. Try again in a moment."
            ) from error
        finally:
            self._accepted -= 1

    def close(self) -> None:
        """End the threads when they have done what they are doing."""
        self._threads.shutdown(wait=False, cancel_futures=True)
