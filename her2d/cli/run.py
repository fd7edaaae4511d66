"""`her2d run`: run the daemon."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from her2d.cli.errors import end_at_once, is_device_lost, sentence_of
from her2d.cli.options import (
    ConfigOption,
    configure_logging_of,
    folders_of_names,
    settings_of,
)
from her2d.cli.terminal import say_error
from her2d.settings import Settings

if TYPE_CHECKING:
    from her2d.monitoring.log import LogFormat
    from her2d.monitoring.pseudonyms import Pseudonyms

EXIT_DEVICE_LOST = os.EX_TEMPFAIL
"""75: this process has lost the GPU, but a new one may be able to use it. systemd starts one."""


def run(config: ConfigOption = None) -> None:
    """Run the daemon until it is stopped.

    Watches the inboxes and processes every finished scan. SIGTERM or Ctrl+C stops it when the
    slides in progress are done; a second SIGTERM stops it without waiting for them. While it
    starts, SIGTERM ends it at once. SIGHUP reloads
    the settings; those that cannot change while the daemon runs take effect at the next start.

    Exit code 75 means that the GPU was lost. All jobs are back in the queue, and a new process
    continues with them.
    """
    from her2d.monitoring.log import configure_logging, logs_json
    from her2d.monitoring.log_queue import log_through_queue
    from her2d.monitoring.stderr_lines import stderr_lines_logged
    from her2d.monitoring.uncaught import log_uncaught

    # Until the settings say how to log, they say so themselves.
    configure_logging("auto", "info")
    with _last_words("auto"):
        settings = settings_of(config)
    pseudonyms = configure_logging_of(settings)
    log_format = settings.ops.log_format
    with stderr_lines_logged() if logs_json(log_format) else nullcontext():
        log_through_queue()
        log_uncaught()
        with _last_words(log_format):
            _run(settings, config, pseudonyms)


def _run(settings: Settings, config: Path | None, pseudonyms: "Pseudonyms | None") -> None:
    # Importing the daemon loads libraries in C, whose lines are logged by now.
    from her2d.daemon.service import Daemon
    from her2d.daemon.signal_thread import handle_in_thread
    from her2d.daemon.start import end_at_start

    def load() -> Settings:
        again = settings_of(config)
        if pseudonyms is not None:
            pseudonyms.hide_below(folders_of_names(again))
        return again

    daemon = Daemon(settings, load)

    def stop() -> None:
        if not daemon.is_ready:
            # The main thread may be blocked, and a start leaves nothing half done.
            end_at_start()
        daemon.stop()

    handle_in_thread({signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: daemon.reload})
    daemon.run()


@contextmanager
def _last_words(log_format: "LogFormat") -> Iterator[None]:
    """Log the sentence that ends the daemon, where the log is JSON; elsewhere `main` prints it."""
    from her2d.monitoring.log import logs_json
    from her2d.monitoring.log_queue import flush_log
    from her2d.system.loggers import get_logger
    from her2d.system.text import shortened

    log = get_logger(__name__)
    try:
        yield
    except Exception as error:
        if (sentence := sentence_of(error)) is None:
            raise
        is_logged = logs_json(log_format)
        if is_logged:
            log.critical("daemon_failed", reason=shortened(sentence))
        flush_log()
        if is_device_lost(error):
            try:
                if not is_logged:
                    say_error(sentence)
            finally:
                end_at_once(EXIT_DEVICE_LOST)
        if is_logged:
            raise typer.Exit(1) from error
        raise
    finally:
        flush_log()
