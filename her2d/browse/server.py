"""The web server: the pages of `routes`, behind the layers that say who may see them."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from her2d.browse.answers import http_error
from her2d.browse.database import ResultsDatabase, limit_memory_of_queries
from her2d.browse.headers import with_security_headers
from her2d.browse.hosts import for_this_machine_only
from her2d.browse.other_sites import refuse_other_sites
from her2d.browse.routes import Pages
from her2d.browse.tokens import ask_for_token
from her2d.db.connection import open_readonly

_CONNECTIONS = 200
_IDLE_S = 10
_STOP_S = 3
_LONGEST_HEADER = 16 << 10


def build_app(database: Path, token: str | None) -> ASGIApp:
    """Build the application on `database`, which it opens read-only for each query.

    Args:
        database: the database file.
        token: what each request must have; None asks for nothing.

    Raises:
        DatabaseError: the database does not exist, or its schema is of another version.
    """
    open_readonly(database).close()
    pages = Pages(ResultsDatabase(database))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        pages.close()

    app: ASGIApp = Starlette(
        routes=pages.routes(),
        lifespan=lifespan,
        exception_handlers={HTTPException: http_error},
    )
    if token is not None:
        app = ask_for_token(app, token)
    return with_security_headers(for_this_machine_only(refuse_other_sites(app)))


def serve(database: Path, listening: socket.socket, token: str | None) -> None:
    """Serve on a listening socket until interrupted. Raises DatabaseError."""
    limit_memory_of_queries()
    server = uvicorn.Server(server_config(build_app(database, token)))
    server.run(sockets=[listening])


def server_config(app: ASGIApp) -> uvicorn.Config:
    """Return how the server runs. Its log has no addresses, which may have a token or a name."""
    return uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_STOP_S,
        h11_max_incomplete_event_size=_LONGEST_HEADER,
    )


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that closes a connection on which no whole request has come for some seconds."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(_IDLE_S, self._close_if_unused)

    def _close_if_unused(self) -> None:
        received: object = self.cycle  # uvicorn's type leaves out that it is None at first
        if received is None and not self.transport.is_closing():
            self.transport.close()
