"""`her2d run`: the daemon."""

import os
import signal
import sys

import typer

from her2d.cli.options import (
    ConfigOption,
    configure_logging_of,
    folders_of_names,
    settings_of,
)
from her2d.settings import Settings

EXIT_DEVICE_LOST = os.EX_TEMPFAIL
"""75: the GPU is lost to this process, and a new one may go on. systemd starts it."""


def run(config: ConfigOption = None) -> None:
    """Watch the inboxes and process every finished scan until stopped (SIGTERM or Ctrl-C).

    SIGHUP reads the settings again; what cannot change under a running daemon waits for the next
    start. A second SIGTERM does not wait for the slides under way.

    Exit code 75 means that the GPU was lost: every job is back in the queue, and a new process
    goes on with them.
    """
    # The daemon's imports take seconds that other commands need not pay.
    from her2d.daemon.service import Daemon
    from her2d.inference.engine import DeviceLostError
    from her2d.monitoring.uncaught import log_uncaught

    settings = settings_of(config)
    pseudonyms = configure_logging_of(settings)
    log_uncaught()

    def load() -> Settings:
        again = settings_of(config)
        if pseudonyms is not None:
            pseudonyms.hide_below(folders_of_names(again))
        return again

    daemon = Daemon(settings, load)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
    try:
        daemon.run()
    except DeviceLostError as error:
        # At once: what CUDA's libraries would clear away for the lost device may hang or abort.
        try:
            typer.echo(f"her2d: {error}", err=True)
            sys.stderr.flush()
        finally:
            os._exit(EXIT_DEVICE_LOST)
