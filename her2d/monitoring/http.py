"""Serve /metrics, /healthz and /readyz over HTTP, on the loopback address by default."""

import io
import socket
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from her2d.errors import Her2dError
from her2d.system.loggers import get_logger

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

log = get_logger(__name__)

Probe = Callable[[], str | None]
"""Returns None if there is no problem, else a sentence that describes it."""


class CannotListenError(Her2dError):
    """The server cannot listen on its address; `str(error)` names it and the settings to change."""


class OpsServer:
    """Serves requests in a separate thread until the context is left.

    Args:
        host: the address or name to listen on.
        port: the port; 0 selects a free one.
        registry: the metrics to serve.
        healthy: the probe of /healthz.
        ready: the probe of /readyz.

    Attributes:
        port: the port that the server listens on.

    Raises:
        CannotListenError: the address cannot be used.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, *, healthy: Probe, ready: Probe
    ) -> None:
        metrics = make_wsgi_app(registry)
        probes = {"/healthz": healthy, "/readyz": ready}

        def answer(environ: dict[str, Any], start: "StartResponse") -> Iterable[bytes]:
            try:
                return respond(environ, start)
            except Exception:
                log.exception("http_request_failed", request_path=environ.get("PATH_INFO", ""))
                return _text(start, "500 Internal Server Error", "Failed; see the log.")

        def respond(environ: dict[str, Any], start: "StartResponse") -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                page: Iterable[bytes] = metrics(environ, start)
                return page
            if path not in probes:
                return _text(start, "404 Not Found", "Request /metrics, /healthz or /readyz.")
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
                f"Cannot listen on {address(host, port)}: {_reason(error)}. Stop the program that"
                " uses it, or change [ops] port or host."
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
        """Log that a client disconnected; the base class prints a traceback."""
        log.warning("http_client_disconnected", exc_info=True)


class _OverIPv6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    def handle(self) -> None:
        """Handle a request, and log the traceback that wsgiref prints if it cannot respond."""
        self._stderr = io.StringIO()
        super().handle()
        if text := self._stderr.getvalue():
            log.warning("http_response_not_sent", stderr=text)

    def get_stderr(self) -> io.StringIO:
        return self._stderr

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
        """Log nothing: there is a scrape every few seconds."""


def address(host: str, port: int) -> str:
    """Return the address as it is written in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError) -> str:
    reason = error.strerror or str(error)
    return reason[:1].lower() + reason[1:]


def _text(start: "StartResponse", status: str, text: str) -> list[bytes]:
    body = f"{text}\n".encode()
    start(
        status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    )
    return [body]
