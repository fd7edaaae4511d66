"""What root makes for the service must be the service's."""

import os
from pathlib import Path


def belongs_with(path: Path, model: Path) -> None:
    """As root, give `path` the owner and group that `model` has; as anybody else do nothing.

    A command that was run as root would else leave files that the daemon cannot write. Raises
    OSError.
    """
    if os.geteuid() == 0:
        owner = model.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
