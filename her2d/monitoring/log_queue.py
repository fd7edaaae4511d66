"""Write the log in a thread, so that no work waits until somebody reads it.

A full pipe, a stopped terminal or a journal that hangs blocks every write. Lines wait in a bounded
queue then. What does not fit is dropped and counted, and a line says so when the log is read again.
"""

import contextlib
import io
import logging
import os
import threading
from collections import deque
from typing import Any

from her2d.system.loggers import get_logger

log = get_logger(__name__)

_MOST_CHARACTERS = 4 * 2**20
_FLUSH_S = 5.0
_CLOSE_S = 2.0


class QueueHandler(logging.Handler):
    """Formats records in the caller's thread, and has another handler's stream write the lines.

    Attributes:
        dropped: lines that were dropped so far.
    """

    def __init__(self, target: "logging.StreamHandler[Any]", most_characters: int) -> None:
        """Take the place of `target`, and keep at most so many characters of waiting lines."""
        super().__init__(target.level)
        self.setFormatter(target.formatter)
        self._target = target
        self._most_characters = most_characters
        self._lines: deque[str] = deque()
        self._characters = 0
        self._is_writing = False
        self.dropped = 0
        self._told = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="her2d-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  as every handler of the standard library does
            self.handleError(record)
            return
        with self._changed:
            if self._characters + len(line) > self._most_characters:
                self.dropped += 1
                return
            self._lines.append(line)
            self._characters += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, for a few seconds at most."""
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._is_writing, _FLUSH_S)

    def close(self) -> None:
        """Write what waits, for a few seconds at most, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_CLOSE_S)
        super().close()

    def _run(self) -> None:
        while (lines := self._taken()) is not None:
            written = [self._write(line) for line in lines]
            if all(written):
                self._report_dropped()
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()

    def _taken(self) -> list[str] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closing)
            if not self._lines:
                return None
            lines, self._characters, self._is_writing = list(self._lines), 0, True
            self._lines.clear()
            return lines

    def _write(self, line: str) -> bool:
        """Write a line, and return whether that was possible."""
        try:
            self._write_whole(f"{line}\n")
        except (OSError, ValueError):  # the reader of the log is gone, or the stream was closed
            with self._changed:
                self.dropped += 1
            return False
        return True

    def _write_whole(self, text: str) -> None:
        """Write to the stream's descriptor, if it has one.

        A thread that is blocked in the stream itself would hold its lock, for which other writers
        and the end of the interpreter wait.
        """
        stream = self._target.stream
        descriptor = None
        with contextlib.suppress(io.UnsupportedOperation, AttributeError):
            descriptor = stream.fileno()
        if descriptor is None:
            stream.write(text)
            stream.flush()
            return
        data = memoryview(text.encode(errors="backslashreplace"))
        while data:
            data = data[os.write(descriptor, data) :]

    def _report_dropped(self) -> None:
        """Say how many lines are missing, once the log is read again and no line waits."""
        with self._changed:
            if self._lines:
                return
            new, self._told = self.dropped - self._told, self.dropped
        if new:
            log.warning("log_lines_dropped", lines=new)


_handlers: list[QueueHandler] = []


def log_through_queue(most_characters: int = _MOST_CHARACTERS) -> None:
    """Replace the handlers of the root logger that write to a stream. Only the daemon does this."""
    root = logging.getLogger()
    for number, handler in enumerate(root.handlers):
        if isinstance(handler, logging.StreamHandler):
            root.handlers[number] = queued = QueueHandler(handler, most_characters)
            _handlers.append(queued)


def lines_dropped() -> int:
    """Return how many lines of the log were dropped since the start."""
    return sum(handler.dropped for handler in _handlers)


def flush_log() -> None:
    """Wait until all lines are written, for a few seconds at most."""
    for handler in _handlers:
        handler.flush()
