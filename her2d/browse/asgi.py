"""What the layers around the pages share: answers of one sentence, and the address of a request."""

from urllib.parse import parse_qsl, quote, unquote_to_bytes, urlencode

from starlette.responses import PlainTextResponse
from starlette.types import Scope

from her2d.errors import Her2dError

_MOST_PARAMETERS = 20


class BadParameter(Her2dError):  # noqa: N818  the name is the problem
    """A parameter in an address has a value that it cannot have; `str(error)` says which."""


def sentence(status: int, text: str, headers: dict[str, str] | None = None) -> PlainTextResponse:
    """Return an answer of one sentence."""
    return PlainTextResponse(text, status_code=status, headers=headers)


def parameters_of(scope: Scope) -> list[tuple[str, str]]:
    """Return the parameters after the question mark, in order.

    Raises:
        BadParameter: they are too many, or not UTF-8.
    """
    try:
        return parse_qsl(
            scope["query_string"].decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MOST_PARAMETERS,
        )
    except UnicodeDecodeError as error:
        raise BadParameter("The address is not UTF-8.") from error
    except ValueError as error:
        raise BadParameter(
            f"The address has more than {_MOST_PARAMETERS} parameters or an invalid one."
        ) from error


def require_utf8(scope: Scope) -> None:
    """Raise BadParameter if the path is not UTF-8; the server has replaced such bytes."""
    try:
        unquote_to_bytes(scope.get("raw_path") or scope["path"]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadParameter("The address is not UTF-8.") from error


def own_address(scope: Scope, *, without: str = "") -> str:
    """Return the address of a request on this server, without one of its parameters.

    It begins with exactly one slash, so that a browser cannot take it for another server's.
    """
    kept = urlencode([(name, value) for name, value in parameters_of(scope) if name != without])
    path = "/" + quote(scope["path"].lstrip("/"))
    return f"{path}?{kept}" if kept else path
