"""Serve /metrics, /healthz and /readyz over HTTP, on the loopback address by default.

Connections cost a few kilobytes each and no thread, however slow their clients are. Each has a
deadline, and there is a bounded number of them: beyond it, the oldest is closed. Two threads render
metrics and two ask the probes; requests wait for these, and nothing else waits for requests.
"""

import asyncio
import contextlib
import resource
import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import h11
from prometheus_client import CollectorRegistry, make_wsgi_app

from her2d.errors import Her2dError
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_DEADLINE_S = 10.0  # for a request and its response
_LINGER_S = 2.0  # for the client to close the connection after its response
_MOST_CONNECTIONS = 1000
_MOST_REQUEST_BYTES = 16 * 1024
_READ_BYTES = 4096
_BACKLOG = 1024
_THREADS = 2
_SHUTDOWN_S = 5.0

Probe = Callable[[], str | None]
"""Returns None if there is no problem, else a sentence that describes it."""


class CannotListenError(Her2dError):
    """The server cannot listen on its address; `str(error)` names it and the settings to change."""


@dataclass(frozen=True, slots=True)
class _Page:
    """A response: its status, such as 200, its headers without the length, and its body."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = field(
        default=(("Content-Type", "text/plain; charset=utf-8"),)
    )


class OpsServer:
    """Serves requests in a separate thread until the context is left.

    Args:
        host: the address or name to listen on.
        port: the port; 0 selects a free one.
        registry: the metrics to serve.
        healthy: the probe of /healthz.
        ready: the probe of /readyz.
        on_drop: called for each client that is disconnected because it is too slow, or because
            there are too many.

    Attributes:
        port: the port that the server listens on.

    Raises:
        CannotListenError: the address cannot be used.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        *,
        healthy: Probe,
        ready: Probe,
        on_drop: Callable[[], None] = lambda: None,
    ) -> None:
        self._metrics = make_wsgi_app(registry)
        self._probes = {"/healthz": healthy, "/readyz": ready}
        self._on_drop = on_drop
        listening = _listening(host, port)
        self.port: int = listening.getsockname()[1]
        self._open: dict[asyncio.StreamWriter, None] = {}  # the oldest first
        self._most_connections = _most_connections()
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_loop_error)
        self._rendering = _started_pool("her2d-http-metrics")
        self._probing = _started_pool("her2d-http-probe")
        self._thread = threading.Thread(
            target=self._loop.run_until_complete,
            args=[self._run(listening)],
            name="her2d-http",
            daemon=True,
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
        self.close()

    def close(self) -> None:
        """Stop listening and close all connections."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_SHUTDOWN_S)
        for pool in (self._rendering, self._probing):
            pool.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self._loop.close()

    async def _run(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(
            self._serve, sock=listening, backlog=_BACKLOG, limit=_MOST_REQUEST_BYTES
        )
        await self._stop.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which ends after its first response or at its deadline."""
        self._open[writer] = None
        if len(self._open) > self._most_connections:
            self._on_drop()
            oldest = next(iter(self._open))
            del self._open[oldest]  # at once, or each of a crowd would drop the same one
            oldest.transport.abort()
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await self._exchange(reader, writer)
            await _close(reader, writer)
        except TimeoutError:
            self._on_drop()
            log.debug("http_client_dropped", reason=f"It took longer than {_DEADLINE_S:.0f} s.")
        except asyncio.CancelledError:
            log.debug("http_client_dropped", reason="The server stops.")
        except ConnectionError:
            if writer in self._open:
                log.warning("http_client_disconnected", exc_info=True)
        except Exception:
            log.exception("http_connection_failed")
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_REQUEST_BYTES)
        is_head = False
        try:
            request = await _request(protocol, reader)
        except h11.RemoteProtocolError as error:
            page = _text(error.error_status_hint, "The request is not HTTP.")
        else:
            if request is None:
                return  # the client closed the connection without a request
            is_head = request.method == b"HEAD"
            page = await self._respond(request)
        headers = [*page.headers, ("Content-Length", str(len(page.body))), ("Connection", "close")]
        data = protocol.send(h11.Response(status_code=page.status, headers=headers)) or b""
        if not is_head:
            data += protocol.send(h11.Data(data=page.body)) or b""
        data += protocol.send(h11.EndOfMessage()) or b""
        writer.transport.set_write_buffer_limits(high=0)  # `drain` returns when all is sent
        writer.write(data)
        await writer.drain()

    async def _respond(self, request: h11.Request) -> _Page:
        method, target = request.method.decode("ascii"), request.target.decode("ascii")
        try:
            parts = urlsplit(target)
            path = unquote(parts.path).rstrip("/")
        except ValueError:
            return _text(400, "The address is not valid.")
        if path not in ("/metrics", *self._probes):
            return _text(404, "Request /metrics, /healthz or /readyz.")
        if method not in ("GET", "HEAD"):
            page = _text(405, "Only GET and HEAD are allowed.")
            return _Page(page.status, page.body, (*page.headers, ("Allow", "GET, HEAD")))
        try:
            if path == "/metrics":
                headers = {
                    name.decode(): value.decode("latin-1") for name, value in request.headers
                }
                return await self._loop.run_in_executor(
                    self._rendering, self._rendered, parts.query, headers
                )
            problem = await self._loop.run_in_executor(self._probing, self._probes[path])
        except Exception:
            log.exception("http_request_failed", request_path=path)
            return _text(500, "Failed; see the log.")
        return _text(503, problem) if problem else _text(200, "ok")

    def _rendered(self, query: str, headers: Mapping[str, str]) -> _Page:
        """Return the metrics in the format that the client accepts."""
        sent: list[tuple[str, str]] = []

        def start(_status: str, found: list[tuple[str, str]], *_: Any) -> None:
            sent.extend(found)

        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "QUERY_STRING": query,
            "HTTP_ACCEPT": headers.get("accept", ""),
            "HTTP_ACCEPT_ENCODING": headers.get("accept-encoding", ""),
        }
        body: Iterable[bytes] = self._metrics(environ, start)
        return _Page(200, b"".join(body), tuple(sent))


async def _close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Close a connection so that its client receives all of the response.

    If a socket is closed with data that nobody has read, such as the rest of a request that is
    refused, the kernel sends a reset, and this takes from the client what it has not read yet. So
    the rest is read first, for a bounded time. See RFC 9112, section 9.6.
    """
    with contextlib.suppress(ConnectionError):  # the client has closed it already
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while await reader.read(_READ_BYTES):
                    pass
        writer.close()
        await writer.wait_closed()


async def _request(protocol: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
    """Return the request, None if the client closed the connection before one.

    Raises h11.RemoteProtocolError.
    """
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            protocol.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Request):
            return event
        else:
            return None


def address(host: str, port: int) -> str:
    """Return the address as it is written in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise CannotListenError(
            f"Cannot listen on {address(host, port)}: {_reason(error)}. Stop the program that"
            " uses it, or change [ops] port or host."
        ) from error


def _reason(error: Exception) -> str:
    # `create_server` adds the address to the system's words, which is named already.
    reason = (getattr(error, "strerror", None) or str(error)).partition(" (while ")[0]
    return reason[:1].lower() + reason[1:]


def _most_connections() -> int:
    """Return how many connections may be open, and leave most descriptors to the slides."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MOST_CONNECTIONS, max(16, descriptors // 4))


def _started_pool(name: str) -> ThreadPoolExecutor:
    """Return a pool whose threads run already, so that none has to be started under load."""
    pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=name)
    all_run = threading.Barrier(_THREADS)
    for task in [pool.submit(all_run.wait) for _ in range(_THREADS)]:
        task.result()
    return pool


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
    """Log what goes wrong outside of requests, such as a connection without a free descriptor."""
    error = context.get("exception")
    log.warning("http_connection_refused", reason=str(context.get("message")), error=str(error))


def _text(status: int, text: str) -> _Page:
    return _Page(status, f"{text}\n".encode())
