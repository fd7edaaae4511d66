"""Collect the events that her2d logs, from all threads."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict] = []

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.msg, dict):
            self.events.append(dict(record.msg))


@contextmanager
def capture_logs() -> Iterator[list[dict]]:
    """Yield the list that the events of the block are added to, each with its fields and level."""
    logger, collector = logging.getLogger("her2d"), _Collector()
    level = logger.level
    logger.addHandler(collector)
    logger.setLevel(logging.DEBUG)
    try:
        yield collector.events
    finally:
        logger.setLevel(level)
        logger.removeHandler(collector)
