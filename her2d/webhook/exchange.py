"""One request to the receiver and its answer, with one deadline for all of it.

The deadline holds for the name's address, the connection, TLS, the request and the answer together,
because a limit for each read is never reached by a receiver that sends a byte now and then. The
answer's headers are bounded by the HTTP library, and of its body no more than the start is read.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakSet

from her2d.errors import Her2dError
from her2d.system.connections import are_dropped_here, forbidden_reason

if TYPE_CHECKING:
    import httpx

_MOST_OF_A_BODY = 64 * 1024


class DeliveryError(Her2dError):
    """The receiver did not answer the request; `str(error)` says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request.

    Attributes:
        status: its HTTP status.
        body: the first 64 KiB of its body, or what arrived of it; as sent, compressed or not.
        is_late: whether its body had not ended at the deadline.
    """

    status: int
    body: bytes = b""
    is_late: bool = False

    @property
    def is_success(self) -> bool:
        """Whether the status is a 2xx."""
        return 200 <= self.status < 300


class Exchange:
    """Sends requests to one address, one after the other. For one thread; a context manager.

    Args:
        url: the address. Redirects are not followed.
        deadline_s: seconds from the start of a request to the end of its answer.
    """

    def __init__(self, url: str, deadline_s: float) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._loop = _Loop()
        self._runner = asyncio.Runner(loop_factory=lambda: self._loop)
        self._client: httpx.AsyncClient | None = None

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._runner.run(self._close())
        finally:
            self._runner.__exit__(kind, error, trace)

    def post(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request and return the answer. Raises DeliveryError."""
        return self._runner.run(self._ask("POST", body, headers))

    def get(self) -> Answer:
        """Send a request without a body and return the answer. Raises DeliveryError."""
        return self._runner.run(self._ask("GET", b"", {}))

    async def _ask(self, method: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        import httpx

        if self._client is None:
            # The deadline below is the only limit on time.
            self._client = httpx.AsyncClient(timeout=None)
        request = self._client.build_request(method, self._url, content=body, headers=headers)
        end = asyncio.get_running_loop().time() + self._deadline_s
        self._loop.tried.clear()
        try:
            async with asyncio.timeout_at(end):
                response = await self._client.send(request, stream=True)
        except TimeoutError as error:
            reason = f"No answer within {self._deadline_s:g} s"
            is_connected = self._loop.abort_connections()
            if not is_connected and are_dropped_here(self._loop.tried):
                hosts = dict.fromkeys(address[0] for *_, address in self._loop.tried)
                reason += f": {forbidden_reason(' and '.join(hosts))}"
            raise DeliveryError(f"{reason}.") from error
        except httpx.HTTPError as error:
            raise DeliveryError(f"{type(error).__name__}: {error}") from error
        found = bytearray()
        try:
            async with asyncio.timeout_at(end):
                await _read_body(response, found)
        except TimeoutError:
            return Answer(response.status_code, bytes(found), is_late=True)
        finally:
            await response.aclose()
        return Answer(response.status_code, bytes(found))

    async def _close(self) -> None:
        if self._client is not None:
            await self._client.aclose()


async def _read_body(response: "httpx.Response", found: bytearray) -> None:
    """Read the body's start, or all of it if it is short: then the connection can be used again."""
    import httpx

    with contextlib.suppress(httpx.HTTPError):  # the status has arrived, and is what counts
        async for part in response.aiter_raw():  # not decompressed
            found += part[: _MOST_OF_A_BODY - len(found)]
            if len(found) == _MOST_OF_A_BODY:
                return


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose connections can be aborted, and whose resolver does not hold up anyone.

    The resolver cannot be interrupted. The threads that asyncio runs it in are waited for when the
    process ends, so each lookup has a daemon thread here. While one hangs, it is not started again.

    Attributes:
        tried: the addresses that connections were begun to, as `socket.getaddrinfo` returns them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tried: list[tuple[Any, ...]] = []
        self._lookups: dict[Any, asyncio.Future[Any]] = {}
        self._connections: WeakSet[asyncio.BaseTransport] = WeakSet()

    async def create_connection(self, *args: Any, **kwargs: Any) -> Any:
        host, port = (*args[1:3], kwargs.get("host"), kwargs.get("port"))[:2]
        with contextlib.suppress(OSError):  # a name would have to be looked up once more
            self.tried += socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)
        transport, protocol = await super().create_connection(*args, **kwargs)
        self._connections.add(transport)
        return transport, protocol

    def abort_connections(self) -> bool:
        """Close every connection at once, and return whether there were any.

        A deadline in the midst of TLS leaves them open.
        """
        transports = [one for one in self._connections if isinstance(one, asyncio.WriteTransport)]
        are_open = [not transport.is_closing() for transport in transports]
        for transport in transports:
            transport.abort()
        return any(are_open)

    async def getaddrinfo(
        self,
        host: str | bytes | None,
        port: str | bytes | int | None,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  the name in asyncio
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        asked = (host, port, family, type, proto, flags)
        if asked not in self._lookups:
            self._lookups[asked] = self.create_future()
            self._lookups[asked].add_done_callback(lambda _: self._lookups.pop(asked))
            threading.Thread(
                target=self._look_up, args=asked, name="her2d-resolver", daemon=True
            ).start()
        return await asyncio.shield(self._lookups[asked])

    def _look_up(self, *asked: Any) -> None:
        found: Any = None
        error: Exception | None = None
        try:
            found = socket.getaddrinfo(*asked)
        except OSError as problem:
            error = problem
        except UnicodeError as problem:  # no name of a host has such a form
            error = socket.gaierror(socket.EAI_NONAME, str(problem))
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            self.call_soon_threadsafe(self._answer, asked, found, error)

    def _answer(self, asked: Any, found: Any, error: Exception | None) -> None:
        lookup = self._lookups[asked]
        if error is None:
            lookup.set_result(found)
        else:
            lookup.set_exception(error)
            lookup.exception()  # it may be that nobody waits for it any longer
