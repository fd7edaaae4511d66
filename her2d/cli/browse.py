"""`her2d browse`: show results in a web browser on this machine."""

import socket
from typing import Annotated

import typer

from her2d.cli.errors import UserError
from her2d.cli.extras import needing
from her2d.cli.options import ConfigOption, settings_of
from her2d.cli.terminal import say
from her2d.db.connection import open_readonly

_LOOPBACK = "127.0.0.1"
_BACKLOG = 128


def browse(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")
    ] = 8001,
    no_token: Annotated[
        bool,
        typer.Option(
            "--no-token",
            help="Ask for no token: every user and program of this machine can see the results.",
        ),
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Show results in a web browser on this machine.

    Open the address that it prints. The token in it, which is new at each start, keeps out other
    users of this machine. Other machines cannot connect, and nothing can be changed in the browser.
    """
    database = settings_of(config).results.database
    open_readonly(database).close()
    with needing("her2d browse"):
        from her2d.browse.server import serve
        from her2d.browse.tokens import new_token
    token = None if no_token else new_token()
    with _listening(port) as server:
        parameter = "" if token is None else f"?token={token}"
        address = f"http://{_LOOPBACK}:{server.getsockname()[1]}/{parameter}"
        say(f"Results are at {address} (press Ctrl+C to stop).")
        if token is None:
            say("Every user of this machine can see them.", err=True)
        serve(database, server, token)


def _listening(port: int) -> socket.socket:
    """Return a socket that listens on `port`, or on a free one for 0.

    It listens before the token is printed, so that no other program can be sent the token.

    Raises:
        UserError: the port cannot be listened on.
    """
    # asyncio sends answers without delay only if the protocol is named.
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((_LOOPBACK, port))
        server.listen(_BACKLOG)
    except OSError as error:
        server.close()
        raise UserError(
            f"Cannot listen on {_LOOPBACK}:{port}: {error.strerror}. Choose another --port."
        ) from error
    return server
