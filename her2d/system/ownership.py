"""Whose a file is: what root makes for the service must be the service's."""

import contextlib
import grp
import os
import pwd
import shutil
from pathlib import Path


def belongs_with(path: Path, model: Path) -> None:
    """As root, give `path` the owner and group that `model` has; as anybody else do nothing.

    A command that was run as root would else leave files that the daemon cannot write. Raises
    OSError.
    """
    if os.geteuid() != 0:
        return
    owner = model.stat()
    # Root may not give files away in every container and on every share; what needs the owner
    # will say so by itself.
    with contextlib.suppress(PermissionError):
        os.chown(path, owner.st_uid, owner.st_gid)


def as_closed_as(path: Path, model: Path) -> None:
    """Let those read and write `path` who may `model`. Raises OSError."""
    shutil.copymode(model, path)
    belongs_with(path, model)


def who_may(path: Path) -> str:
    """A sentence for a user who was refused `path`: as whom to run the command."""
    owner, group = _owner(path)
    # What root owns and lets a group read, such as /etc/her2d/config.toml, is for that group.
    name = group if owner == "root" else owner
    if name == "root":
        return "It belongs to root."
    return f"Run it as the user whose it is: sudo -u {name} her2d ..."


def _owner(path: Path) -> tuple[str, str]:
    """Of `path`, or of the folder that is in the way."""
    try:
        status = path.stat()
    except OSError:
        if path == path.parent:
            raise
        return _owner(path.parent)
    return _name_of_user(status.st_uid), _name_of_group(status.st_gid)


def _name_of_user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"  # as sudo(8) takes it


def _name_of_group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"#{number}"
