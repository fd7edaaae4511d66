"""`her2d browse`: results in a web browser on this machine."""

import socket
from typing import Annotated

import typer

from her2d.cli.errors import UserError
from her2d.cli.options import ConfigOption, settings_of
from her2d.db.connection import open_readonly

_LOOPBACK = "127.0.0.1"


def browse(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 is any free one.")
    ] = 8001,
    config: ConfigOption = None,
) -> None:
    """Show the results in a web browser, on this machine only. Nothing can be changed there."""
    database = settings_of(config).results.database
    open_readonly(database).close()
    try:
        from her2d.browse.server import serve
    except ModuleNotFoundError as error:
        raise UserError(
            f"her2d browse needs the Python package {error.name}: pip install 'her2d[browse]'."
        ) from error
    free = _free_port(port)
    typer.echo(f"Results are at http://{_LOOPBACK}:{free}/ (Ctrl+C stops).")
    serve(database, _LOOPBACK, free)


def _free_port(port: int) -> int:
    """`port`, or a free one for 0. Raises UserError where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError as error:
            raise UserError(f"Port {port} is taken; give another --port.") from error
        return int(probe.getsockname()[1])
