"""Reject requests that name another host than this machine.

A page from another server can make a browser send requests to 127.0.0.1 under that server's name
(DNS rebinding). The Host header has that name.
"""

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

_OWN_NAMES = frozenset({"127.0.0.1", "localhost"})


def for_this_machine_only(app: App) -> App:
    """Wrap an ASGI application; requests for other hosts get 421, Misdirected Request."""

    async def guarded(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and _host(scope) not in _OWN_NAMES:
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 421, "headers": headers})
            await send(
                {
                    "type": "http.response.body",
                    "body": b"This server answers only to 127.0.0.1 and localhost.",
                }
            )
            return
        await app(scope, receive, send)

    return guarded


def _host(scope: Scope) -> str:
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return hosts[0].rpartition(":")[0] or hosts[0] if len(hosts) == 1 else ""
