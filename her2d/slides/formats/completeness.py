"""Whether a file in an inbox is a complete scan of a format that the daemon takes."""

from pathlib import Path

from her2d.slides.errors import RefusedError
from her2d.slides.formats.opening import UnreadableFormatError, open_source
from her2d.slides.formats.recognition import Format, recognise
from her2d.slides.integrity import Completeness, Integrity, Missing, check_integrity, not_accessible


def check_scan(path: Path) -> Integrity:
    """Return whether the file at `path` is a complete scan, as `check_integrity` does for TIFF.

    A file of another format is complete if its library opens it: these formats have their
    directories at the end, or state their lengths. A format of several files is BROKEN here,
    because nothing tells when the last of them has arrived. Never raises.
    """
    try:
        found = recognise(path)
        if found is not None and not found.is_one_file and path.is_file():
            return Integrity(Completeness.BROKEN, refused_by_daemon(found))
        source = None if path.is_dir() else open_source(path)
    except UnreadableFormatError as error:
        return Integrity(Completeness.BROKEN, str(error))
    except RefusedError as error:
        reason = f"is not finished, or damaged: it {error}"
        return Integrity(Completeness.INCOMPLETE, reason, Missing.DIRECTORIES)
    except OSError as error:
        return not_accessible(error)
    if source is None:
        return check_integrity(path)
    source.close()
    return Integrity(Completeness.COMPLETE, None)


def refused_by_daemon(found: Format) -> str:
    """Return why the daemon does not take a scan of several files; it continues "FILE ..."."""
    return (
        f"is a {found.name}, which has several files ({found.files}), and only scans of one file "
        "are taken from an inbox; score it with `her2d scan`"
    )
