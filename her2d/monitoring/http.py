"""/metrics, /healthz and /readyz on one small server, loopback by default."""

import io
import socket
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from her2d.errors import Her2dError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

log = structlog.get_logger(__name__)

Probe = Callable[[], str | None]
"""Says None when all is well, else in a sentence what is not."""


class CannotListenError(Her2dError):
    """The address cannot be had; `str(error)` names it, and the settings to change."""


class OpsServer:
    """Serves until closed. Raises CannotListenError where the address cannot be had."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, *, healthy: Probe, ready: Probe
    ) -> None:
        metrics = make_wsgi_app(registry)
        probes = {"/healthz": healthy, "/readyz": ready}

        def answer(environ: dict[str, Any], start: "StartResponse") -> Iterable[bytes]:
            try:
                return respond(environ, start)
            except Exception:
                log.exception("scrape_failed", asked=environ.get("PATH_INFO", ""))
                return _text(start, "500 Internal Server Error", "It failed; the log says why.")

        def respond(environ: dict[str, Any], start: "StartResponse") -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                page: Iterable[bytes] = metrics(environ, start)
                return page
            if path not in probes:
                return _text(start, "404 Not Found", "Ask for /metrics, /healthz or /readyz.")
            if problem := probes[path]():
                return _text(start, "503 Service Unavailable", problem)
            return _text(start, "200 OK", "ok")

        server_class = _OverIPv6 if ":" in host else _Server
        try:
            self._server = make_server(
                host, port, answer, server_class=server_class, handler_class=_Quiet
            )
        except OSError as error:
            raise CannotListenError(
                f"{address(host, port)} cannot be listened on: {error.strerror}. End what has it,"
                " or choose another [ops] port or host."
            ) from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="her2d-http", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingWSGIServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away; the base class prints a traceback."""
        log.warning("scrape_broken_off", exc_info=True)


class _OverIPv6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def handle(self) -> None:
        """wsgiref prints a traceback where it cannot send what it has; that goes to the log."""
        self._said = io.StringIO()
        super().handle()
        if said := self._said.getvalue():
            log.warning("answer_not_sent", said=said)

    def get_stderr(self) -> io.StringIO:
        return self._said

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """A scrape every few seconds is not news."""


def address(host: str, port: int) -> str:
    """As a URL has it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _text(start: "StartResponse", status: str, text: str) -> list[bytes]:
    body = f"{text}\n".encode()
    start(
        status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    )
    return [body]
