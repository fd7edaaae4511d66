"""structlog, set up once: one event name per fact, JSON under systemd, coloured on a terminal."""

import logging
import sys
from typing import Any, Literal

import structlog


def configure_logging(
    log_format: Literal["auto", "json", "console"],
    level: Literal["debug", "info", "warning", "error"],
) -> None:
    """Send every log line to stderr, ours and libraries' alike, in one format."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: list[Any] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer()]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(level.upper())
    # What tifffile says of a bad file reaches the technician as the slide's reason instead.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    # A webhook's address may hold a token; whether it was reached is logged without it.
    logging.getLogger("httpx").setLevel(logging.WARNING)
