"""`her2d run`: run the daemon."""

import os
import signal
import sys

from her2d.cli.options import (
    ConfigOption,
    configure_logging_of,
    folders_of_names,
    settings_of,
)
from her2d.cli.terminal import say_error
from her2d.settings import Settings

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
    # Importing the daemon takes seconds, which would delay the other commands.
    from her2d.daemon.service import Daemon
    from her2d.daemon.signal_thread import handle_in_thread
    from her2d.daemon.start import end_at_start
    from her2d.inference.engine import DeviceLostError
    from her2d.monitoring.log_queue import flush_log, log_through_queue
    from her2d.monitoring.uncaught import log_uncaught

    settings = settings_of(config)
    pseudonyms = configure_logging_of(settings)
    log_through_queue()
    log_uncaught()

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
    try:
        try:
            daemon.run()
        finally:
            flush_log()  # what ends the daemon is said after what the log says
    except DeviceLostError as error:
        # Exit at once. CUDA's libraries may hang or abort while they clean up for a lost device.
        try:
            say_error(error)
            sys.stderr.flush()
        finally:
            os._exit(EXIT_DEVICE_LOST)
