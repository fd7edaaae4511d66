"""What TensorRT says: its calls return None or False, and tell a logger why."""

from typing import Any, Protocol

import structlog

log = structlog.get_logger(__name__)


class TensorRtLog(Protocol):
    """An `ILogger` of TensorRT's that remembers."""

    last_error: str | None


def log_of(trt: Any) -> TensorRtLog:
    """A logger for one builder or runtime and all that comes of it.

    TensorRT warns of a second one in a process and uses it all the same, for the objects that were
    made with it (seen with TensorRT for RTX 1.7; NVIDIA's reference says so since TensorRT 8.2). So
    segmenter and classifiers, which run in threads of their own, do not hear each other's errors.
    """

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error: str | None = None

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.last_error = message
                log.debug("tensorrt_error", said=message)
            elif severity == trt.ILogger.WARNING:
                log.debug("tensorrt_warning", said=message)

    made: TensorRtLog = Logger()
    return made
