"""What Linux offers and Python's standard library lacks."""

import ctypes
import os
import platform
import re
import threading
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

# statfs(2): f_type is the structure's first member, a long, on every 64-bit Linux.
_STATFS_BYTES = 256
_TYPE_BITS = 0xFFFFFFFF

# Fields of a line of mountinfo, proc(5); the type follows the dash that ends the optional ones.
_DEVICE, _MOUNT_POINT = 2, 4

# They store no inode numbers: Linux makes them up as files are met (iunique in its fs/inode.c).
_WITHOUT_INODES = frozenset({"exfat", "msdos", "vfat"})

# ioprio_set(2) has no wrapper in glibc; numbers from the kernel's unistd.h.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_WHO_THREAD, _CLASS_IDLE, _CLASS_SHIFT = 1, 3, 13


def file_system_type(path: Path) -> int:
    """The magic number of the file system that `path` lies on (statfs(2)). Raises OSError."""
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return ctypes.c_long.from_buffer(buffer).value & _TYPE_BITS


def mounts_below(folder: Path) -> list[Path]:
    """What is mounted somewhere below `folder`, by proc(5)'s mountinfo: no mount is touched."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    points = (_unescaped(line.split()[_MOUNT_POINT]) for line in lines)
    return [point for point in points if point.is_relative_to(folder) and point != folder]


@lru_cache(maxsize=64)
def stores_inodes(device: int) -> bool:
    """Whether files on that device (stat's st_dev) keep their inode numbers over a new mount."""
    if not os.major(device):  # what has no device of its own: network shares, FUSE, overlays
        return False
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return file_systems(lines).get(device) not in _WITHOUT_INODES


def file_systems(mountinfo: Iterable[str]) -> dict[int, str]:
    """The type of each device's file system, from the lines of proc(5)'s mountinfo."""
    found = {}
    for fields in map(str.split, mountinfo):
        major, minor = fields[_DEVICE].split(":")
        found[os.makedev(int(major), int(minor))] = fields[fields.index("-") + 1]
    return found


def _unescaped(name: bytes) -> Path:
    """mountinfo writes a space, tab, newline or backslash as a backslash and three octal digits."""
    return Path(os.fsdecode(re.sub(rb"\\(\d{3})", lambda at: bytes([int(at[1], 8)]), name)))


def inotify_watches() -> int:
    """How many folders this process has events of: inotify watches, by proc(5)'s fdinfo."""
    found = 0
    for descriptor in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = descriptor.read_text().splitlines()
        except OSError:
            continue  # another thread's file, closed since
        found += sum(line.startswith("inotify wd:") for line in lines)
    return found


def be_idle() -> None:
    """Give the calling thread, and no other, the lowest priority for processor and disk.

    For good: without privileges a thread cannot raise its priority again (setpriority(2): on Linux
    the nice value is a thread's). What the system does not allow is left as it is.
    """
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    if number := _IOPRIO_SET.get(platform.machine()):
        _libc.syscall(number, _WHO_THREAD, 0, _CLASS_IDLE << _CLASS_SHIFT)
