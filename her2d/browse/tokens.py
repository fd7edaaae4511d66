"""Answer only requests that have the token which `her2d browse` prints at its start.

Every user of a machine can connect to its loopback address; the token keeps those out who may not
read the database. The printed address contains it. A browser that opens the address gets a cookie
in exchange, and goes to the same address without the token, so that it stays in no history and in
no Referer. Programs send it in the header `Authorization: Bearer TOKEN`.
"""

import secrets

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from her2d.browse.asgi import BadParameter, own_address, parameters_of, sentence
from her2d.browse.hosts import host_of

PARAMETER = "token"
_BYTES = 32
_SCHEME = "bearer "
_REFUSED = (
    "Open the address that her2d browse printed when it started. It contains a token, which is new"
    " at each start. A program sends it in the header Authorization: Bearer TOKEN."
)


def new_token() -> str:
    """Return a token that nobody can guess."""
    return secrets.token_urlsafe(_BYTES)


def ask_for_token(app: ASGIApp, token: str) -> ASGIApp:
    """Wrap an ASGI application; requests without the token get 401."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        answer = _answer(scope, token)
        await (app if answer is None else answer)(scope, receive, send)

    return guarded


def _answer(scope: Scope, token: str) -> Response | None:
    """Return the answer to a request that is not to be passed on, else None."""
    try:
        given = [value for name, value in parameters_of(scope) if name == PARAMETER]
        address = own_address(scope, without=PARAMETER)
    except BadParameter as error:
        return sentence(400, str(error))
    if given:
        return _exchange(scope, address, token) if _has(token, given) else _refusal()
    cookie = HTTPConnection(scope).cookies.get(_cookie_name(scope))
    sent = _bearer_tokens(scope) + ([] if cookie is None else [cookie])
    return None if _has(token, sent) else _refusal()


def _has(token: str, given: list[str]) -> bool:
    """Return whether a token is the right one, in a time that does not depend on the others."""
    right = [
        secrets.compare_digest(each.encode("utf-8", "replace"), token.encode()) for each in given
    ]
    return any(right)


def _exchange(scope: Scope, address: str, token: str) -> Response:
    response = RedirectResponse(address, status_code=303)
    response.set_cookie(_cookie_name(scope), token, path="/", httponly=True, samesite="strict")
    return response


def _cookie_name(scope: Scope) -> str:
    """Return the cookie's name, which has the port, because cookies are for all ports of a host."""
    _, colon, port = host_of(scope).rpartition(":")
    return f"her2d-{port}" if colon and port.isdecimal() else "her2d"


def _bearer_tokens(scope: Scope) -> list[str]:
    sent = Headers(scope=scope).getlist("authorization")
    return [each[len(_SCHEME) :].strip() for each in sent if each.lower().startswith(_SCHEME)]


def _refusal() -> Response:
    return sentence(401, _REFUSED, {"www-authenticate": "Bearer"})
