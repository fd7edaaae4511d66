"""Which person runs a command."""

import getpass
import os


def current_actor() -> str:
    """Return the name of the user who runs this process; behind sudo(8), of the one who called it.

    A user without a name is its number, such as `#1001`.
    """
    if (caller := os.environ.get("SUDO_USER")) is not None:
        return caller
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"#{os.getuid()}"
