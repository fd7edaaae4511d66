"""Users, owners and permissions, so that the service can use files that root created for it."""

import contextlib
import grp
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path


def copy_owner(path: Path | int, model: Path) -> None:
    """Give `path` the owner and group of `model` if this process runs as root; else do nothing.

    Otherwise a command that is run as root would leave files that the daemon cannot write. If
    `path` is a link, only the link changes, because the daemon's user may have planted it.

    Args:
        path: a file or folder, or the descriptor of one.
        model: whose owner and group it gets.

    Raises:
        OSError: an owner cannot be read or changed.
    """
    if os.geteuid() != 0:
        return
    owner = model.stat()
    # In some containers and on some shares root may not change owners. An operation that needs the
    # owner then fails with its own error.
    with contextlib.suppress(PermissionError):
        if isinstance(path, int):
            os.fchown(path, owner.st_uid, owner.st_gid)
        else:
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def copy_permissions(path: Path, model: Path) -> None:
    """Copy the permissions, owner and group of `model` to `path`.

    Raises:
        OSError: they cannot be read or changed.
    """
    shutil.copymode(model, path)
    copy_owner(path, model)


def foreign_owner(path: Path) -> str | None:
    """Return the other user who owns a file or its folder, and can change it; None if none does.

    Root does not count, and neither does the user of this process. Raises OSError.
    """
    owners = {each.stat().st_uid for each in (path, path.resolve(), path.resolve().parent)}
    owners.add(path.absolute().parent.stat().st_uid)
    others = sorted(owners - {0, os.geteuid()})
    return name_of_user(others[0]) if others else None


def access_hint(path: Path) -> str:
    """Return a sentence that names the user as whom to run the command to access `path`."""
    owner, group = _owner(path)
    # A file of root that a group can read, such as /etc/her2d/config.toml, is meant for that group.
    name = group if owner == "root" else owner
    if name == "root":
        return "It belongs to root."
    return f"Run the command as its owner: sudo -u {name} her2d ..."


@contextlib.contextmanager
def permissions_of(user: pwd.struct_passwd) -> Iterator[None]:
    """Give this process, which must be root's, the permissions of a user while the block runs.

    It applies to all threads. Raises OSError if the kernel does not allow it.
    """
    before = os.getgroups()
    os.initgroups(user.pw_name, user.pw_gid)
    try:
        os.setegid(user.pw_gid)
        os.seteuid(user.pw_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(os.getgid())
        os.setgroups(before)


def forbidden_folder(path: Path) -> Path | None:
    """Return the first folder above `path` that this process may not enter; None if there is none.

    `os.access` with the effective user counts, as in all checks of permissions.
    """
    above = reversed(path.absolute().parents)
    return next((each for each in above if not _enters(each)), None)


def _enters(folder: Path) -> bool:
    try:
        return not folder.is_dir() or os.access(folder, os.X_OK, effective_ids=True)
    except PermissionError:
        return False


def acting_user() -> str:
    """Return the user of this process, and the one who called sudo(8) to become that user."""
    user = name_of_user(os.getuid())
    caller = os.environ.get("SUDO_USER")
    return f"{caller} as {user}" if caller and caller != user else user


def read_hint() -> str:
    """Return why a scan is not read, and what to do; it continues "FILE ..."."""
    user = name_of_user(os.geteuid())
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
    return name_of_user(status.st_uid), _name_of_group(status.st_gid)


def name_of_user(number: int) -> str:
    """Return the name of a user, or `#` and the number if it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"#{number}"  # as sudo(8) takes it


def _name_of_group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"#{number}"
