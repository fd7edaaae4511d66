"""`her2d browse`: show results in a web browser on this machine."""

import socket
from typing import Annotated

import typer

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, settings_of
from her2d.cli.terminal import say
from her2d.db.connection import open_readonly

_LOOPBACK = "127.0.0.1"


def browse(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 chooses a free one.")
    ] = 8001,
    config: ConfigOption = None,
) -> None:
    """Show results in a web browser on this machine.

    Other machines cannot connect, and nothing can be changed in the browser.
    """
    database = settings_of(config).results.database
    open_readonly(database).close()
    try:
        from her2d.browse.server import serve
    except ModuleNotFoundError as error:
        raise UserError(
            f"her2d browse needs the Python package {error.name}: pip install 'her2d[browse]'."
        ) from error
    free = _free_port(port)
    say(f"Results are at http://{_LOOPBACK}:{free}/ (press Ctrl+C to stop).")
    serve(database, _LOOPBACK, free)


def _free_port(port: int) -> int:
    """Return `port`, or a free one for 0. Raises UserError if it cannot be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            raise UserError(
                f"Cannot listen on {_LOOPBACK}:{port}: {error.strerror}. Choose another --port."
            ) from error
        return int(probe.getsockname()[1])
