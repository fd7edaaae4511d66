"""`her2d run`: the daemon."""

import signal

from her2d.cli.options import ConfigOption, configure_logging_of, settings_of


def run(config: ConfigOption = None) -> None:
    """Watch the inboxes and process every finished scan until stopped (SIGTERM or Ctrl-C)."""
    # The daemon's imports take seconds that other commands need not pay.
    from her2d.daemon import Daemon

    settings = settings_of(config)
    configure_logging_of(settings)
    daemon = Daemon(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    daemon.run()
