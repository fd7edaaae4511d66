"""System calls and files of Linux that Python's standard library does not cover."""

import ctypes
import os
import platform
import re
import threading
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

# statfs(2): f_type is the structure's first member, a long, on every 64-bit Linux.
_STATFS_BYTES = 256
_TYPE_BITS = 0xFFFFFFFF

# Fields of a line of mountinfo, proc(5); the type follows the dash that ends the optional ones.
_DEVICE, _MOUNT_POINT = 2, 4

# Fields of a line of /proc/locks, proc(5), for a lock that is held and not waited for.
_LOCK_KIND, _LOCK_PROCESS, _LOCK_FILE = 1, 4, 5

# These store no inode numbers. Linux assigns one when it first reads a file (iunique, fs/inode.c).
_WITHOUT_INODES = frozenset({"exfat", "msdos", "vfat"})
# These have no change time. What a program in user space (FUSE) returns as it may be anything.
_WITHOUT_CHANGE_TIME = _WITHOUT_INODES
_TYPES_KEPT_S = 30.0

# ioprio_set(2) has no wrapper in glibc; numbers from the kernel's unistd.h.
_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}
_WHO_THREAD, _CLASS_IDLE, _CLASS_SHIFT = 1, 3, 13


def file_system_type(path: Path) -> int:
    """Return the magic number of the file system of `path` (statfs(2)).

    Raises:
        OSError: `path` cannot be examined.
    """
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return ctypes.c_long.from_buffer(buffer).value & _TYPE_BITS


def mounts_below(folder: Path) -> list[Path]:
    """Return the mount points below `folder`, read from mountinfo without touching them."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    points = (_unescaped(line.split()[_MOUNT_POINT]) for line in lines)
    return [point for point in points if point.is_relative_to(folder) and point != folder]


def unmounted_above(path: Path, fstab: Path = Path("/etc/fstab")) -> Path | None:
    """Return the folder above `path` where fstab(5) mounts a file system that is not mounted now.

    Raises OSError.
    """
    try:
        lines = fstab.read_bytes().splitlines()
    except FileNotFoundError:
        return None
    entries = (line.split() for line in lines if not line.lstrip().startswith(b"#"))
    points = (_unescaped(entry[1]) for entry in entries if len(entry) > 1)
    missing = (
        point
        for point in points
        if point.is_absolute() and path.is_relative_to(point) and not os.path.ismount(point)
    )
    return next(missing, None)


def stores_inodes(device: int) -> bool:
    """Return whether files on a device (st_dev) have the same inodes after the next mount."""
    if not os.major(device):  # without a block device: network shares, FUSE, overlays
        return False
    return _type_of_device(device) not in _WITHOUT_INODES


def keeps_change_time(device: int) -> bool:
    """Return whether the file system of a device (st_dev) keeps the change time of its files.

    Devices of which nothing is known are subvolumes of btrfs and shares that are mounted on demand.
    """
    kind = _type_of_device(device)
    return kind not in _WITHOUT_CHANGE_TIME and not kind.startswith("fuse")


def _type_of_device(device: int) -> str:
    """Return the file system's type; an empty text if it is not known."""
    # Linux gives the number of an unmounted device to the next one.
    return _types_in(int(time.monotonic() / _TYPES_KEPT_S)).get(device, "")


@lru_cache(maxsize=1)
def _types_in(_period: int) -> dict[int, str]:
    lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    return file_systems(lines)


def file_systems(mountinfo: Iterable[str]) -> dict[int, str]:
    """Return the type of each device's file system, from the lines of mountinfo (proc(5))."""
    found = {}
    for fields in map(str.split, mountinfo):
        major, minor = fields[_DEVICE].split(":")
        found[os.makedev(int(major), int(minor))] = fields[fields.index("-") + 1]
    return found


def flock_holder(descriptor: int) -> int | None:
    """Return the process that holds the lock (flock(2)) on an open file; None if it is not known.

    /proc/locks (proc(5)) cannot be read in some sandboxes.
    """
    status = os.fstat(descriptor)
    device, inode = status.st_dev, status.st_ino
    name = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for fields in map(str.split, lines):
        if fields[_LOCK_KIND] == "FLOCK" and fields[_LOCK_FILE] == name:
            return int(fields[_LOCK_PROCESS])
    return None


def _unescaped(name: bytes) -> Path:
    """Decode mountinfo's form of spaces, tabs, newlines and backslashes: three octal digits."""
    return Path(os.fsdecode(re.sub(rb"\\(\d{3})", lambda at: bytes([int(at[1], 8)]), name)))


def inotify_watches() -> int:
    """Return the number of folders that this process watches by inotify (fdinfo, proc(5))."""
    found = 0
    for descriptor in Path("/proc/self/fdinfo").iterdir():
        try:
            lines = descriptor.read_text().splitlines()
        except OSError:
            continue  # another thread has closed its file
        found += sum(line.startswith("inotify wd:") for line in lines)
    return found


def be_idle() -> None:
    """Give the calling thread, and no other, the lowest priority for processor and disk.

    This is permanent, because without privileges a thread cannot raise its priority again
    (setpriority(2); on Linux each thread has a nice value). If the system does not allow the disk
    priority, only the processor's is changed.
    """
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
    if number := _IOPRIO_SET.get(platform.machine()):
        _libc.syscall(number, _WHO_THREAD, 0, _CLASS_IDLE << _CLASS_SHIFT)
