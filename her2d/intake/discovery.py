"""Which files below a folder are scans.

Symbolic links are never followed. What a link inside the inbox points to is found under its own
name, and files outside the inbox do not belong to it. A hard link is treated as a file; its content
makes it a duplicate.
"""

import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from pathlib import Path
from typing import Self

from her2d.settings import IntakeSettings

MOST_LEVELS = 100
"""How deep below an inbox folders are searched; no scanner nests them that deep."""

MOST_OTHERS = 10_000
"""How many files that are not scans a search reports; an inbox with more is not an inbox."""

_ENTRIES_AT_ONCE = 500

OnFolder = Callable[[str, int], None]
"""Called with each folder as it is entered, and the number of its device."""

OnUnreadable = Callable[[Path, OSError], None]
"""Called with each folder that cannot be read, and why."""


@dataclass(frozen=True, slots=True)
class Found:
    """A scan, and the state of its file when it was found.

    Attributes:
        path_text: the file's path. A sweep finds thousands of files that it has nothing to do
            with, and making a `Path` costs more than listing ten of them.
        inbox: the inbox that it was found in.
        stat: the state.
    """

    path_text: str
    inbox: Path
    stat: os.stat_result

    @property
    def path(self) -> Path:
        """The file's path."""
        return Path(self.path_text)


OnOther = Callable[[Found], None]
"""Called with each file that is not a scan."""

IsDue = Callable[[str], bool]
"""Says of the path of a file, which may be a scan, whether it is to be examined."""


@dataclass(frozen=True, slots=True)
class ScanRules:
    """What counts as a scan.

    Attributes:
        extensions: in lower case, with the dot.
        ignore: fnmatch(3) patterns; a file is left out if its name, or the name of a folder
            between the inbox and the file, matches one.
        excluded_folders: folders that are never entered, such as the archive.
        sidecar: extension of the files that come beside scans; empty for none.
    """

    extensions: tuple[str, ...]
    ignore: tuple[str, ...] = ()
    excluded_folders: tuple[Path, ...] = ()
    sidecar: str = ""

    @classmethod
    def of(cls, settings: IntakeSettings) -> Self:
        """Return the rules that the settings describe."""
        return cls(
            settings.extensions, settings.ignore, settings.archive_folders, settings.sidecar.lower()
        )

    def enters(self, folder: Path) -> bool:
        """Return whether the folder is searched."""
        return not self.ignores(folder.name) and folder not in self.excluded_folders

    def takes(self, name: str) -> bool:
        """Return whether a file of that name is a scan."""
        return _extension(name) in self.extensions and not self.ignores(name)

    def passes_over(self, name: str) -> bool:
        """Return whether a file of that name is not a scan, not ignored and not a sidecar."""
        extension = _extension(name)
        expected = extension in self.extensions or (extension and extension == self.sidecar)
        return not expected and not self.ignores(name)

    def reaches(self, path: Path, inbox: Path) -> bool:
        """Return whether every folder between the inbox and `path` is searched."""
        between = path.relative_to(inbox).parents
        return all(self.enters(inbox / folder) for folder in list(between)[:-1])

    def finds(self, path: Path, inbox: Path | None) -> bool:
        """Return whether a sweep of the inbox finds a file at `path`."""
        return (
            inbox is not None
            and path.is_relative_to(inbox)
            and self.takes(path.name)
            and self.reaches(path, inbox)
        )

    def ignores(self, name: str) -> bool:
        """Return whether a pattern matches the name of a file or folder."""
        return bool(self.ignore) and _matcher(self.ignore)(name) is not None


@lru_cache(maxsize=8)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    """Return what matches a name with any of the patterns as fnmatchcase does with each."""
    return re.compile("|".join(map(translate, patterns))).match


def _extension(name: str) -> str:
    """Return the extension in lower case, with the dot, as `Path.suffix` finds it."""
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def walk(
    folder: Path,
    inbox: Path,
    rules: ScanRules,
    *,
    on_folder: OnFolder = lambda _folder, _device: None,
    on_unreadable: OnUnreadable = lambda _folder, _error: None,
    on_other: OnOther = lambda _file: None,
    is_due: IsDue = lambda _path: True,
) -> Iterator[list[Found]]:
    """Find every scan below a folder, with one folder open at a time.

    The scans come in lists, which are short or empty, so that the caller can pause after each.
    Folders that are nested deeper than MOST_LEVELS below the inbox are not entered.

    Args:
        folder: the inbox, or a folder in it.
        inbox: the inbox that the scans are found in.
        rules: what counts as a scan.
        on_folder: called with each folder that is entered.
        on_unreadable: called with each subfolder that cannot be read; the search continues with
            the others.
        on_other: called with each file that is not a scan and not to be expected beside one, with
            MOST_OTHERS at most.
        is_due: which of the files are examined; the others are left out of the lists. It is called
            before anything but the path is known, because examining costs far more than listing.

    Raises:
        OSError: `folder` itself cannot be read.
    """
    top = os.fspath(folder)
    waiting = [(top, len(folder.relative_to(inbox).parts))]
    excluded = {os.fspath(each) for each in rules.excluded_folders}
    others = 0
    while waiting:
        here, level = waiting.pop()
        found: list[Found] = []
        try:
            if level > MOST_LEVELS:
                raise OSError(errno.ELOOP, f"Folders are nested more than {MOST_LEVELS} deep")
            with os.scandir(here) as entries:
                on_folder(here, os.stat(here).st_dev)  # noqa: PTH116  a Path costs twice as much
                for number, entry in enumerate(entries, start=1):
                    if entry.is_dir(follow_symlinks=False):
                        if entry.path not in excluded and not rules.ignores(entry.name):
                            waiting.append((entry.path, level + 1))
                    elif not is_due(entry.path):
                        continue
                    elif rules.takes(entry.name):
                        found += _examined(entry, inbox)
                    elif others < MOST_OTHERS and rules.passes_over(entry.name):
                        for other in _examined(entry, inbox):
                            others += 1
                            on_other(other)
                    if number % _ENTRIES_AT_ONCE == 0:
                        yield found
                        found = []
        except OSError as error:
            if here == top:
                yield found
                raise
            on_unreadable(Path(here), error)
        yield found


def find_scan(path: Path, inbox: Path, rules: ScanRules) -> Found | None:
    """Return the file at `path` if it is a scan, None if it is not or does not exist."""
    if not rules.finds(path, inbox):
        return None
    try:
        found = path.lstat()
    except OSError:
        return None  # It was removed, or cannot be read; a sweep finds it if it returns.
    return Found(str(path), inbox, found) if stat.S_ISREG(found.st_mode) else None


def sidecars(slide: Path, suffix: str) -> tuple[Path, ...]:
    """Return the possible paths of a slide's sidecar, SLIDE.xml and SLIDE.tif.xml.

    Returns an empty tuple if `suffix` is empty.
    """
    if not suffix:
        return ()
    return slide.with_suffix(suffix), slide.with_name(slide.name + suffix)


def is_folder(path: Path) -> bool:
    """Return whether `path` is a folder and not a link to one; False if it cannot be read."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False


def _examined(entry: "os.DirEntry[str]", inbox: Path) -> tuple[Found, ...]:
    """Return the file; nothing if it is not a regular one, or cannot be examined."""
    try:
        if not entry.is_file(follow_symlinks=False):  # as a rule without a call of the system
            return ()
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return ()
    return (Found(entry.path, inbox, found),) if stat.S_ISREG(found.st_mode) else ()
