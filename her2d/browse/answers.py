"""Answers: which error gets which status, and bodies that are sent in parts."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from hashlib import blake2b

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from her2d.browse.asgi import BadParameter, parameters_of, require_utf8, sentence
from her2d.browse.database import QueryTooHeavy
from her2d.browse.originals import ScanMissing, ScanUnverified
from her2d.browse.pages import NoSuchPage
from her2d.browse.runs import NoSuchRun
from her2d.browse.workers import TooBusy
from her2d.browse.zoom import NoSuchTile
from her2d.db.connection import DatabaseError
from her2d.errors import Her2dError
from her2d.results.pictures import PicturesMissing
from her2d.results.queries import AmbiguousSlide, SlideNotFound
from her2d.results.stored_run import TilesPruned

View = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger(__name__)

# The first class that an error is an instance of counts.
_STATUSES: tuple[tuple[type[Her2dError], int], ...] = (
    (BadParameter, 400),
    (NoSuchPage, 404),
    (NoSuchRun, 404),
    (NoSuchTile, 404),
    (PicturesMissing, 404),
    (TilesPruned, 404),
    (SlideNotFound, 404),
    (AmbiguousSlide, 409),
    (ScanUnverified, 503),
    (ScanMissing, 404),
    (TooBusy, 503),
    (QueryTooHeavy, 503),
    (DatabaseError, 503),
)
_HTTP = {404: "There is no such page.", 405: "Only GET and HEAD are answered."}
_AGAIN_S = {"retry-after": "2"}


def answering(view: View) -> View:
    """Wrap a view; its errors become answers of one sentence."""

    async def answered(request: Request) -> Response:
        try:
            require_utf8(request.scope)
            return await view(request)
        except Her2dError as error:
            status = next((code for kind, code in _STATUSES if isinstance(error, kind)), None)
            if status is None:
                return _failed(request, error)
            return _refusal(request, status, str(error))
        except HTTPException:
            raise
        except Exception as error:  # noqa: BLE001  reported; the server goes on
            return _failed(request, error)

    return answered


async def http_error(request: Request, error: Exception) -> Response:
    """Answer a request that no view answers."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    return sentence(status, _HTTP.get(status, "An error occurred."), dict(headers or {}))


def parameters(request: Request, known: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return the parameters of an address, each once.

    Raises:
        BadParameter: one is unknown or there twice.
    """
    given: dict[str, str] = {}
    for name, value in parameters_of(request.scope):
        if name not in known:
            raise BadParameter("The address has a parameter that this page does not have.")
        if name in given:
            raise BadParameter(f"The parameter {name} is there twice.")
        given[name] = value
    return given


def json_answer(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return JSON in ASCII, so that no name of a file can steer a terminal."""
    return Response(
        json.dumps(content), status_code=status, media_type="application/json", headers=headers
    )


def picture(request: Request, body: bytes, content_type: str) -> Response:
    """Return a picture, or 304 if the browser has it.

    The browser asks each time, because the same address can mean another picture later: of another
    database, or of no original at all.
    """
    tag = f'"{blake2b(body, digest_size=16).hexdigest()}"'
    headers = {"etag": tag, "cache-control": "private, no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=content_type, headers=headers)


class CsvDownload(Response):
    """A CSV file that is sent while it is read.

    If reading fails in the middle, the connection ends before the body does, so that no program
    takes a part for the whole.
    """

    def __init__(self, file_name: str, parts: AsyncIterator[str]) -> None:
        super().__init__(
            media_type="text/csv",
            headers={"content-disposition": f'attachment; filename="{file_name}"'},
        )
        del self.headers["content-length"]
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        try:
            async for part in self._parts:
                body = part.encode("utf-8", "backslashreplace")
                await send({"type": "http.response.body", "body": body, "more_body": True})
                await asyncio.sleep(0)
        except Her2dError as error:
            _log.warning("browse_download_ended", extra={"reason": str(error)})
            return
        await send({"type": "http.response.body", "body": b""})


def _refusal(request: Request, status: int, text: str) -> Response:
    headers = _AGAIN_S if status == 503 else {}
    if request.url.path.endswith(".json"):
        return json_answer({"error": text}, status, headers)
    return sentence(status, text, headers)


def _failed(request: Request, error: Exception) -> Response:
    _log.error("browse_page_failed", exc_info=error, extra={"path": request.scope["path"]})
    return _refusal(request, 500, "An error occurred. The terminal shows it.")
