"""The server of metrics and probes, which does not stop slides if its port is taken."""

import time
from collections.abc import Callable

from her2d.monitoring.http import CannotListenError, OpsServer
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_AGAIN_S = 10.0


class OpsPort:
    """Opens the server, and tries again from time to time while it cannot. For one thread.

    Args:
        open_server: starts the server; may raise CannotListenError.
    """

    def __init__(self, open_server: Callable[[], OpsServer]) -> None:
        self._open_server = open_server
        self._server: OpsServer | None = None
        self._next_try = float("-inf")
        self._problem: str | None = None
        self.check()

    @property
    def port(self) -> int | None:
        """The port that the server listens on; None if it does not."""
        return self._server.port if self._server is not None else None

    @property
    def problem(self) -> str | None:
        """Why the server does not listen, None if it does."""
        return self._problem

    def check(self) -> None:
        """Start the server if it does not run yet. Called at each pass of the daemon."""
        if self._server is not None or time.monotonic() < self._next_try:
            return
        self._next_try = time.monotonic() + _AGAIN_S
        try:
            self._server = self._open_server()
        except CannotListenError as error:
            if self._problem is None:
                log.error("ops_port_unavailable", reason=str(error))
            self._problem = str(error)
            return
        if self._problem is not None:
            log.info("ops_port_available", port=self._server.port)
        self._problem = None

    def close(self) -> None:
        """Stop the server, if it runs."""
        if self._server is not None:
            self._server.close()
