"""Which file systems report changes to the kernel, and which must be polled."""

from pathlib import Path
from typing import Literal

from her2d.system.linux import file_system_type

WatchMode = Literal["auto", "events", "poll"]

# File systems that another machine or a lower layer can change without an event in this kernel
# (statfs(2), linux/magic.h, inotify(7) "Limitations and caveats").
_SILENT = frozenset(
    {
        0x6969,  # NFS
        0x517B,  # SMB
        0xFF534D42,  # CIFS
        0xFE534D42,  # SMB 2 and later
        0x65735546,  # FUSE: sshfs, davfs, rclone, virtiofs
        0x794C7630,  # overlay
        0x01021997,  # 9p
        0x00C36400,  # Ceph
        0x5346414F,  # AFS
        0x6B414653,  # kAFS
        0x73757245,  # Coda
        0x0BD00BD0,  # Lustre
        0x01161970,  # GFS2
        0x7461636F,  # OCFS2
        0x786F4256,  # VirtualBox shared folders
        0x47504653,  # GPFS
        0x0187,  # autofs, until something is mounted there
    }
)


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
