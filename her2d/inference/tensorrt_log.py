"""What TensorRT says: its calls return None or False, and tell a logger why.

TensorRT keeps the first logger of a process and ignores every other one, with a warning
(`ILogger` in NVIDIA's API reference), so there is one here for all builders and runtimes. It tells
apart what it said to whom: segmenter and classifiers run in threads of their own, and whether a
batch is halved depends on the words.
"""

import functools
import threading
from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)


class TensorRtLog(Protocol):
    """An `ILogger` of TensorRT's that remembers."""

    def forget(self) -> None:
        """From now on `last_error` tells of this thread's calls."""
        ...

    @property
    def last_error(self) -> str | None:
        """The last error in this thread, or in one that TensorRT started, since `forget`."""
        ...


@functools.cache
def log_of(trt: Any) -> TensorRtLog:
    """The one logger of a TensorRT module."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self._by_thread: dict[int, str | None] = {}
            self._within: str | None = None

        def forget(self) -> None:
            self._by_thread[threading.get_ident()] = self._within = None

        @property
        def last_error(self) -> str | None:
            return self._by_thread.get(threading.get_ident()) or self._within

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                thread = threading.get_ident()
                if thread in self._by_thread:
                    self._by_thread[thread] = message
                else:
                    self._within = message
                log.debug("tensorrt_error", said=message)
            elif severity == trt.ILogger.WARNING:
                log.debug("tensorrt_warning", said=message)

    made: TensorRtLog = Logger()
    return made
