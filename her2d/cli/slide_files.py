"""Find the slides that the arguments of a command name."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from her2d.slides.formats.recognition import recognise

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True, slots=True)
class Unusable:
    """A path that cannot be processed; `reason` is one sentence that names it."""

    path: Path
    reason: str


def slide_files(paths: Iterable[Path], extensions: tuple[str, ...]) -> Iterator[Path | Unusable]:
    """Generate the slides that `paths` name, as absolute paths, and what cannot be used of them.

    Args:
        paths: files, and folders of files. Folders are searched with their subfolders; symbolic
            links to folders are not followed. A folder that is one DICOM slide is named itself.
        extensions: of the slides in folders, in lower case. A file that is named is always one.
    """
    for path in paths:
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            yield Unusable(path, f"There is no file or folder {path}.")
        except OSError as error:
            yield Unusable(path, _unreadable(path, error))
        else:
            yield from _below(path, extensions) if stat.S_ISDIR(mode) else [_file(path, mode)]


def _below(folder: Path, extensions: tuple[str, ...]) -> list[Path | Unusable]:
    found: list[Path | Unusable] = []

    def unreadable(error: OSError) -> None:
        found.append(Unusable(Path(error.filename), _unreadable(error.filename, error)))

    for here, names in _walk(folder, unreadable):
        if _is_slide(Path(here)):
            found.append(Path(here).absolute())
        for name in names:
            path = Path(here, name)
            if path.suffix.lower() not in extensions:
                continue
            try:
                found.append(_file(path, path.stat().st_mode))
            except OSError as error:
                found.append(Unusable(path, _unreadable(path, error)))
    if not found:
        return [Unusable(folder, f"There are no slides in {folder}.")]
    return sorted(found, key=lambda each: each if isinstance(each, Path) else each.path)


def _walk(folder: Path, unreadable: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """Generate the folders below `folder`, and itself, with the names of the files in them.

    `os.walk` calls itself for each level, and Python's stack is shorter than folders can be deep.
    """
    waiting = [str(folder)]
    while waiting:
        here, names = waiting.pop(), []
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif not entry.is_dir():
                        names.append(entry.name)
        except OSError as error:
            unreadable(error)
            continue
        yield here, names


def _is_slide(folder: Path) -> bool:
    """Whether a folder of DICOM files is one slide; files that cannot be read are named later."""
    try:
        return recognise(folder) is not None
    except OSError:
        return False


def _file(path: Path, mode: int) -> Path | Unusable:
    if stat.S_ISREG(mode):
        return path.absolute()
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return Unusable(path, f"{path} is {kind}, not a file.")


def _unreadable(path: object, error: OSError) -> str:
    return f"{path} cannot be read: {error.strerror}."
