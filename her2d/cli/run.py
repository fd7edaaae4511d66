"""`her2d run`: the daemon."""

import signal

from her2d.cli.options import ConfigOption, configure_logging_of, settings_of


def run(config: ConfigOption = None) -> None:
    """Watch the inboxes and process every finished scan until stopped (SIGTERM or Ctrl-C).

    SIGHUP reads the settings again; what cannot change under a running daemon waits for the next
    start. A second SIGTERM does not wait for the slides under way.
    """
    # The daemon's imports take seconds that other commands need not pay.
    from her2d.daemon import Daemon

    settings = settings_of(config)
    configure_logging_of(settings)
    daemon = Daemon(settings, lambda: settings_of(config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    signal.signal(signal.SIGHUP, lambda *_: daemon.reload())
    daemon.run()
