"""Answers only to this machine's own names.

A page elsewhere can make a browser ask 127.0.0.1 under a name of its own (DNS rebinding); the Host
header gives it away.
"""

from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
App = Callable[[Scope, Any, Any], Awaitable[None]]

_OWN_NAMES = frozenset({"127.0.0.1", "localhost"})


def for_this_machine_only(app: App) -> App:
    """Wrap an ASGI application: other hosts' names are answered 421, Misdirected Request."""

    async def guarded(scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and _host(scope) not in _OWN_NAMES:
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 421, "headers": headers})
            await send({"type": "http.response.body", "body": b"This is not the host asked for."})
            return
        await app(scope, receive, send)

    return guarded


def _host(scope: Scope) -> str:
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return hosts[0].rpartition(":")[0] or hosts[0] if len(hosts) == 1 else ""
