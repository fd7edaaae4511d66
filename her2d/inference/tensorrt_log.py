"""TensorRT's messages. Its calls return None or False, and only a logger gets the reason."""

from typing import Any, Protocol

from her2d.system.loggers import get_logger

log = get_logger(__name__)


class TensorRtLog(Protocol):
    """A TensorRT `ILogger` that keeps the last error.

    Attributes:
        last_error: its message, or None.
    """

    last_error: str | None


def log_of(trt: Any) -> TensorRtLog:
    """Create a logger for one builder or runtime and the objects made from it.

    TensorRT warns about a second logger in a process, but uses it for the objects that were made
    with it (observed with TensorRT for RTX 1.7; NVIDIA's reference states it since TensorRT 8.2).
    So the segmenter and the classifiers, which run in different threads, get separate errors.

    Args:
        trt: the module `tensorrt` or `tensorrt_rtx`.
    """

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last_error: str | None = None

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.ERROR:
                self.last_error = message
                log.debug("tensorrt_error", message=message)
            elif severity == trt.ILogger.WARNING:
                log.debug("tensorrt_warning", message=message)

    logger: TensorRtLog = Logger()
    return logger
