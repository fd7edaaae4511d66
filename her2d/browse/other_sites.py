"""Refuse requests that a page of another site makes the browser send.

Such a page cannot read the answers, but each could cost seconds of computing. Browsers say in
Sec-Fetch-Site where a request comes from (https://www.w3.org/TR/fetch-metadata/). Older ones say it
in Origin or Referer. Programs send none of them.
"""

import html

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from her2d.browse.asgi import BadParameter, own_address, sentence
from her2d.browse.hosts import host_of

# "none" is an address that was typed, a bookmark or a link in another program. Another port of this
# machine, which may be another user's program, is "same-site".
_OWN = frozenset({"same-origin", "none"})
_REFUSED = "This address was opened by a page of another site."
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>her2d</title></head>
<body><p>{refused} <a href="{address}">Open it</a></p></body></html>
"""


def refuse_other_sites(app: ASGIApp) -> ASGIApp:
    """Wrap an ASGI application; requests from pages of other sites get 403."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_own(scope):
            await _refusal(scope)(scope, receive, send)
            return
        await app(scope, receive, send)

    return guarded


def _is_own(scope: Scope) -> bool:
    headers, here = Headers(scope=scope), f"http://{host_of(scope)}"
    return (
        set(headers.getlist("sec-fetch-site")) <= _OWN
        and all(origin == here for origin in headers.getlist("origin"))
        and all(page.startswith(f"{here}/") for page in headers.getlist("referer"))
    )


def _refusal(scope: Scope) -> Response:
    """Return the refusal; for a link that a person has followed, a page from which to go on."""
    if Headers(scope=scope).getlist("sec-fetch-dest") != ["document"]:
        return sentence(403, _REFUSED)
    try:
        address = own_address(scope)
    except BadParameter as error:
        return sentence(400, str(error))
    page = _PAGE.format(refused=_REFUSED, address=html.escape(address))
    return HTMLResponse(page, status_code=403)
