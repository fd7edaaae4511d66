"""structlog, set up once: one event name per fact, JSON under systemd, coloured on a terminal.

Every line about a slide carries `job_id`, in whatever thread it is written; while the slide is
under way also `run`, JOB.CLAIM, which tells one try of it from the next. The line `slide_finished`
adds `slide_id` and `run_id`, by which the result is known from then on.
"""

import logging
import sys
from typing import Any, Literal

import structlog

from her2d.monitoring.pseudonyms import Pseudonyms

# Unlike `dict_tracebacks`: local variables are where secrets and names lie.
_WITHOUT_LOCALS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logging(
    log_format: Literal["auto", "json", "console"],
    level: Literal["debug", "info", "warning", "error"],
    pseudonyms: Pseudonyms | None = None,
) -> None:
    """Send every log line to stderr, ours and libraries' alike, in one format.

    With `pseudonyms`, no slide's name is in any of them.
    """
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    exceptions, renderer = _rendering(as_json)
    hiding = [pseudonyms] if pseudonyms is not None else []
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                exceptions,
                *hiding,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(level.upper())
    # What tifffile says of a bad file reaches the technician as the slide's reason instead.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    logging.getLogger("watchdog.observers.inotify").addFilter(_is_no_late_event)
    # A webhook's address may hold a token; whether it was reached is logged without it.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _is_no_late_event(record: logging.LogRecord) -> bool:
    """watchdog calls it an error that an event arrives just as its watch is stopped."""
    return "called when the thread is inactive" not in record.getMessage()


def _rendering(as_json: bool) -> tuple[Any, Any]:
    """What makes fields of an exception, and a line of the fields."""
    if as_json:
        # Names in Chinese stay legible.
        return (
            structlog.processors.ExceptionRenderer(_WITHOUT_LOCALS),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        )
    return (
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    )
