"""Write the log of a command: JSON lines under systemd, coloured text on a terminal.

Each line begins with its event's name. In the journal it has the priority of its level, so that
`journalctl -p warning` shows warnings and errors. Every line about a slide also has `job_id`, in
all threads. While the slide is processed it has `attempt_id`, which is JOB.CLAIM and distinguishes
the attempts.
`slide_finished` adds `slide_id` and `run_id`, which identify the result in the database.
"""

import json
import logging
import sys
from typing import Any, Literal

import structlog

from her2d.monitoring.pseudonyms import Pseudonyms
from her2d.system.journal import is_journal, with_priority
from her2d.system.loggers import ADD_COMMON_FIELDS
from her2d.system.text import printable

_EVENT_WIDTH = 30
_LEVEL_WIDTH = len("critical")

LogFormat = Literal["auto", "json", "console"]

# `structlog.processors.dict_tracebacks` logs local variables, which may hold secrets and names.
_WITHOUT_LOCALS = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure_logging(
    log_format: LogFormat,
    level: Literal["debug", "info", "warning", "error"],
    pseudonyms: Pseudonyms | None = None,
) -> None:
    """Write all log lines to stderr in one format, those of libraries included.

    Args:
        log_format: `auto` writes coloured text to a terminal and JSON to anything else.
        level: lines below this level are dropped.
        pseudonyms: replaces the names of slides in all lines; None logs them as they are.
    """
    exceptions, renderer = _rendering(logs_json(log_format))
    hiding = [pseudonyms] if pseudonyms is not None else []
    formatter = _JournalFormatter if is_journal(sys.stderr) else structlog.stdlib.ProcessorFormatter
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        formatter(
            foreign_pre_chain=ADD_COMMON_FIELDS,
            processors=[
                exceptions,
                *hiding,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _event_first,
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


def logs_json(log_format: LogFormat) -> bool:
    """Return whether the log of that format is JSON on the present stderr."""
    return log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())


class _JournalFormatter(structlog.stdlib.ProcessorFormatter):
    """Gives each line the priority of its level."""

    def format(self, record: logging.LogRecord) -> str:
        return with_priority(super().format(record), record.levelno)


def _event_first(logger: Any, method: str, line: Any) -> Any:
    return {"event": line.get("event"), **line}


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
    console = structlog.dev.ConsoleRenderer(
        columns=_columns(colors=sys.stderr.isatty()),
        exception_formatter=structlog.dev.plain_traceback,
    )

    def on_terminal(logger: Any, method: str, line: Any) -> Any:
        return console(logger, method, {key: _printable(value) for key, value in line.items()})

    return structlog.processors.format_exc_info, on_terminal


def _columns(*, colors: bool) -> list[structlog.dev.Column]:
    """Return the columns of a line of text: the event, the level, the time, then all others."""
    dev = structlog.dev
    bright, dim, name, content, reset = (
        (dev.BRIGHT, dev.DIM, dev.CYAN, dev.MAGENTA, dev.RESET_ALL) if colors else ("",) * 5
    )
    levels = dev.ConsoleRenderer.get_default_level_styles(colors)

    def plain(style: str, width: int) -> dev.KeyValueColumnFormatter:
        return dev.KeyValueColumnFormatter(None, style, reset, str, width)

    return [
        dev.Column("event", plain(bright, _EVENT_WIDTH)),
        dev.Column("level", dev.LogLevelColumnFormatter(levels, reset, _LEVEL_WIDTH)),
        dev.Column("timestamp", plain(dim, 0)),
        dev.Column("", dev.KeyValueColumnFormatter(name, content, reset, _quoted)),
    ]


def _quoted(value: Any) -> str:
    """Return a value as it is if it is one word, else quoted."""
    is_word = isinstance(value, str) and value and not set(value) & set(" \t=\r\n\"'")
    return value if is_word else repr(value)


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
