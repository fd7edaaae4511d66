"""What a file system does: report changes to the kernel, and share memory between programs."""

import os
from pathlib import Path
from typing import Literal

from her2d.system.linux import file_system_type

WatchMode = Literal["auto", "events", "poll"]

# statfs(2), linux/magic.h. Network shares, and folders of a virtual machine's or container's host,
# on which programs do not share memory, or locks are not reliable.
_SHARES = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "SMB",
    0xFE534D42: "SMB",
    0x01021997: "9p",
    0x5346414F: "AFS",
    0x6B414653: "AFS",
    0x73757245: "Coda",
    0x786F4256: "a VirtualBox folder",
}
# These may or may not be like that: FUSE is sshfs and rclone, but also ntfs-3g.
_PERHAPS_SHARED = {
    0x65735546: "FUSE",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x47504653: "GPFS",
}
# File systems that another machine or a lower layer can change without an event in this kernel
# (inotify(7) "Limitations and caveats").
_SILENT = frozenset(
    {
        *_SHARES,
        *_PERHAPS_SHARED,
        0x794C7630,  # overlay
        0x0187,  # autofs, until something is mounted there
    }
)


def network_share(folder: Path) -> str | None:
    """Return the kind of network share that `folder` is on; None if it is not on one.

    Raises:
        OSError: the folder cannot be examined.
    """
    return _SHARES.get(file_system_type(folder))


def possible_share(folder: Path) -> str | None:
    """Return the file system of `folder` if other machines may write to it; else None.

    Raises:
        OSError: the folder cannot be examined.
    """
    return _PERHAPS_SHARED.get(file_system_type(folder))


def is_missing_or_empty(folder: Path) -> bool:
    """Return whether there is nothing in `folder`, as where a share is not mounted."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is None
    except FileNotFoundError:
        return True
    except OSError:
        return False  # it is there, and cannot be read


def needs_polling(folder: Path, mode: WatchMode) -> bool:
    """Return whether the kernel may miss changes in `folder`.

    Args:
        folder: an inbox or a folder in it.
        mode: the setting. `auto` examines the folder's file system, so that a remote share which
            is mounted in a local inbox is polled and the rest is not.

    Raises:
        OSError: the folder cannot be examined.
    """
    if mode == "auto":
        return file_system_type(folder) in _SILENT
    return mode == "poll"
