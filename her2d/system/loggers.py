"""Give each module a structlog logger that writes through the standard library's logging.

The loggers are named after their modules, below `her2d`. A program that uses her2d as a library
sees their lines only if it configures logging, for example with `logging.basicConfig`. structlog's
configuration belongs to that program: these loggers neither read nor change it.
"""

import logging
from typing import Any

import structlog
from structlog.typing import EventDict

# Without a handler, the standard library would print warnings to stderr.
logging.getLogger("her2d").addHandler(logging.NullHandler())

# The standard library reports the line that called structlog's methods, not a line in structlog.
_FRAMES_OF_STRUCTLOG = 3

_NOT_IN_THE_TEXT = frozenset({"event", "level", "timestamp", "exc_info", "stack_info"})

ADD_COMMON_FIELDS: tuple[Any, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)
"""structlog processors that add the bound fields, the level and the time to an event."""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module, named `her2d` or below it."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[structlog.stdlib.filter_by_level, *ADD_COMMON_FIELDS, _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=False,
    )
    return logger


class _Fields(dict[str, Any]):
    """An event as the message of a log record.

    structlog's formatter reads the fields; every other formatter prints the text.
    """

    def __str__(self) -> str:
        fields = (f"{key}={value!r}" for key, value in self.items() if key not in _NOT_IN_THE_TEXT)
        return " ".join((str(self["event"]), *fields))


def _to_record(
    logger: logging.Logger, name: str, event: EventDict
) -> tuple[tuple[_Fields], dict[str, Any]]:
    """Pass an event to the standard library, with what structlog's formatter needs."""
    return (_Fields(event),), {
        "exc_info": event.get("exc_info"),
        "stacklevel": 1 + _FRAMES_OF_STRUCTLOG,
        "extra": {"_logger": logger, "_name": name},
    }
