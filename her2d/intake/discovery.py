"""Which files below a folder are scans.

Links are never followed: what a symbolic link inside the inbox points to is found under its own
name, and what lies outside is none of the inbox's. A hard link is a file like any other; its
content makes it a duplicate.
"""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Self

from her2d.settings import IntakeSettings

OnFolder = Callable[[Path, int], None]
"""Called with each folder as it is entered, and the number of its device."""

OnUnreadable = Callable[[Path, OSError], None]


@dataclass(frozen=True, slots=True)
class Found:
    """A scan, and how its file looked when it was found."""

    path: Path
    inbox: Path
    stat: os.stat_result


@dataclass(frozen=True, slots=True)
class ScanRules:
    """What counts as a scan.

    Attributes:
        extensions: lower case, with their dot.
        ignore: patterns (fnmatch(3)); one that fits the name of a file, or of a folder on the way
            to it, leaves it out.
        elsewhere: folders that are never entered, such as the archive.
    """

    extensions: tuple[str, ...]
    ignore: tuple[str, ...] = ()
    elsewhere: tuple[Path, ...] = ()

    @classmethod
    def of(cls, settings: IntakeSettings) -> Self:
        """The settings' rules."""
        return cls(settings.extensions, settings.ignore, settings.archive_folders)

    def enters(self, folder: Path) -> bool:
        """Whether a folder's content may be scans."""
        return not self._ignored(folder.name) and folder not in self.elsewhere

    def takes(self, file: Path) -> bool:
        """Whether a file of that name is a scan."""
        return file.suffix.lower() in self.extensions and not self._ignored(file.name)

    def reaches(self, path: Path, inbox: Path) -> bool:
        """Whether every folder between the inbox and `path` is entered."""
        between = path.relative_to(inbox).parents
        return all(self.enters(inbox / folder) for folder in list(between)[:-1])

    def finds(self, path: Path, inbox: Path | None) -> bool:
        """Whether a sweep of the inbox comes upon a file at `path`."""
        return (
            inbox is not None
            and path.is_relative_to(inbox)
            and self.takes(path)
            and self.reaches(path, inbox)
        )

    def _ignored(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.ignore)


def walk(
    folder: Path,
    inbox: Path,
    rules: ScanRules,
    *,
    on_folder: OnFolder = lambda _folder, _device: None,
    on_unreadable: OnUnreadable = lambda _folder, _error: None,
) -> Iterator[Found]:
    """Every scan below `folder`, which is `inbox` or lies in it; one folder is open at a time.

    A folder below that cannot be read costs its own files only, and is told to `on_unreadable`.
    Raises OSError where `folder` itself cannot be read.
    """
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                on_folder(here, here.stat().st_dev)
                for entry in entries:
                    path = Path(entry.path)
                    if entry.is_dir(follow_symlinks=False):
                        if rules.enters(path):
                            waiting.append(path)
                    elif rules.takes(path) and (found := _regular(entry)):
                        yield Found(path, inbox, found)
        except OSError as error:
            if here == folder:
                raise
            on_unreadable(here, error)


def look_at(path: Path, inbox: Path, rules: ScanRules) -> Found | None:
    """The file at `path` if it is a scan; None where it is not, or is gone."""
    if not rules.finds(path, inbox):
        return None
    try:
        found = path.lstat()
    except OSError:
        return None  # Gone, or not ours to see: the sweep will find it if it returns.
    return Found(path, inbox, found) if stat.S_ISREG(found.st_mode) else None


def sidecars(slide: Path, suffix: str) -> tuple[Path, ...]:
    """Where a slide's companion file may be: SLIDE.xml and SLIDE.tif.xml; none for no suffix."""
    if not suffix:
        return ()
    return slide.with_suffix(suffix), slide.with_name(slide.name + suffix)


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder, and no link to one; False where that cannot be told."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def lies_within(path: Path, inbox: Path) -> bool:
    """Whether `path`, with every link on the way followed, is still below `inbox`. Raises OSError
    where it is gone."""
    return path.resolve(strict=True).is_relative_to(inbox.resolve(strict=True))


def _regular(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None
