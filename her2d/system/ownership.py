"""Owners and permissions, so that the service can use files that root created for it."""

import contextlib
import grp
import os
import pwd
import shutil
from pathlib import Path


def copy_owner(path: Path, model: Path) -> None:
    """Give `path` the owner and group of `model` if this process runs as root; else do nothing.

    Otherwise a command that is run as root would leave files that the daemon cannot write.

    Raises:
        OSError: an owner cannot be read or changed.
    """
    if os.geteuid() != 0:
        return
    owner = model.stat()
    # In some containers and on some shares root may not change owners. An operation that needs the
    # owner then fails with its own error.
    with contextlib.suppress(PermissionError):
        os.chown(path, owner.st_uid, owner.st_gid)


def copy_permissions(path: Path, model: Path) -> None:
    """Copy the permissions, owner and group of `model` to `path`.

    Raises:
        OSError: they cannot be read or changed.
    """
    shutil.copymode(model, path)
    copy_owner(path, model)


def access_hint(path: Path) -> str:
    """Return a sentence that names the user as whom to run the command to access `path`."""
    owner, group = _owner(path)
    # A file of root that a group can read, such as /etc/her2d/config.toml, is meant for that group.
    name = group if owner == "root" else owner
    if name == "root":
        return "It belongs to root."
    return f"Run the command as its owner: sudo -u {name} her2d ..."


def read_hint() -> str:
    """Return why a scan is not read, and what to do; it continues "FILE ..."."""
    user = _name_of_user(os.geteuid())
    return (
        f"cannot be read: Permission denied. User {user} needs read permission for the file and its"
        " folders; give it with chmod, or add the user to the file's group."
    )


def _owner(path: Path) -> tuple[str, str]:
    """Return user and group of `path`, or of the folder above it that cannot be entered."""
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
