"""Write the log of a command: JSON lines under systemd, coloured text on a terminal.

Each line has an event name. Every line about a slide also has `job_id`, in all threads.
While the slide is processed it has `attempt_id`, which is JOB.CLAIM and distinguishes the attempts.
`slide_finished` adds `slide_id` and `run_id`, which identify the result in the database.
"""

import json
import logging
import sys
from typing import Any, Literal

import structlog

from her2d.monitoring.pseudonyms import Pseudonyms
from her2d.system.loggers import ADD_COMMON_FIELDS
from her2d.system.text import printable

# `structlog.processors.dict_tracebacks` logs local variables, which may hold secrets and names.
_WITHOUT_LOCALS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logging(
    log_format: Literal["auto", "json", "console"],
    level: Literal["debug", "info", "warning", "error"],
    pseudonyms: Pseudonyms | None = None,
) -> None:
    """Write all log lines to stderr in one format, those of libraries included.

    Args:
        log_format: `auto` writes coloured text to a terminal and JSON to anything else.
        level: lines below this level are dropped.
        pseudonyms: replaces the names of slides in all lines; None logs them as they are.
    """
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    exceptions, renderer = _rendering(as_json)
    hiding = [pseudonyms] if pseudonyms is not None else []
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=ADD_COMMON_FIELDS,
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
    # tifffile's messages about a bad file are in the slide's reason already.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    logging.getLogger("watchdog.observers.inotify").addFilter(_is_not_a_late_event)
    # httpx logs the webhook's address, which may contain a token.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def _is_not_a_late_event(record: logging.LogRecord) -> bool:
    """Return False for watchdog's error about an event that arrives while a watch is stopped."""
    return "called when the thread is inactive" not in record.getMessage()


def _rendering(as_json: bool) -> tuple[Any, Any]:
    """Return the processors that render an exception, and a whole line."""
    if as_json:
        return (
            structlog.processors.ExceptionRenderer(_WITHOUT_LOCALS),
            structlog.processors.JSONRenderer(serializer=_json),
        )
    console = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)

    def on_terminal(logger: Any, method: str, line: Any) -> Any:
        return console(logger, method, {key: _printable(value) for key, value in line.items()})

    return structlog.processors.format_exc_info, on_terminal


def _printable(value: Any) -> Any:
    """Return a field's value with line breaks, but no other character that steers a terminal."""
    if isinstance(value, str):
        return "\n".join(map(printable, value.split("\n")))
    return value if isinstance(value, int | float | bool | None) else printable(str(value))


def _json(line: Any, **options: Any) -> str:
    """Return a line as JSON in which Chinese names stay readable and nothing steers a terminal."""
    text = json.dumps(line, ensure_ascii=False, **options)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
