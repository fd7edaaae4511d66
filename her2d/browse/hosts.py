"""Reject requests that name another host than this machine.

A page from another server can make a browser send requests to 127.0.0.1 under that server's name
(DNS rebinding). The Host header has that name.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from her2d.browse.asgi import sentence

_OWN_NAMES = frozenset({"127.0.0.1", "localhost"})


def for_this_machine_only(app: ASGIApp) -> ASGIApp:
    """Wrap an ASGI application; requests for other hosts get 421, Misdirected Request."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _name(scope) not in _OWN_NAMES:
            refusal = sentence(421, "This server answers only to 127.0.0.1 and localhost.")
            await refusal(scope, receive, send)
            return
        await app(scope, receive, send)

    return guarded


def host_of(scope: Scope) -> str:
    """Return the host and port that a request names; "" if it names none or several."""
    hosts = Headers(scope=scope).getlist("host")
    return hosts[0].lower() if len(hosts) == 1 else ""


def _name(scope: Scope) -> str:
    host = host_of(scope)
    return host.rpartition(":")[0] or host
