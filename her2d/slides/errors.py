"""The errors that reading a slide raises, worded for a technician."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from her2d.errors import Her2dError
from her2d.system.shortage import is_own_shortage

_log = logging.getLogger(__name__)


class SlideError(Her2dError):
    """A file cannot be read as a whole-slide image.

    `str(error)` is one sentence: the file's name, then `reason`.

    Attributes:
        name: the file's name, without its folder.
        reason: the rest of the sentence, such as "is cut short: ...".
        code: the kind of reason in one word for programs, such as "several_areas".
    """

    def __init__(self, name: str, reason: str, code: str = "unreadable") -> None:
        super().__init__(f"{name} {reason}")
        self.name = name
        self.reason = reason
        self.code = code

    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return type(self), (self.name, self.reason, self.code)


class SlideUnavailableError(SlideError):
    """The storage failed, not the slide: a share is unreachable, or a permission is missing.

    A later attempt may succeed. The error's cause is the OSError.
    """


class RefusedError(Her2dError):
    """Why something in a file cannot be used; `str(error)` continues the sentence "FILE ...".

    Raised inside this package, in functions that do not know the file's name.

    Attributes:
        code: as in SlideError.
    """

    code = "unreadable"


class SeveralAreasError(RefusedError):
    """The file holds several scans, and one of them alone does not give the slide's status."""

    code = "several_areas"

    def __init__(self, count: int) -> None:
        super().__init__(
            f"holds {count} scanned areas, and the HER2 status is that of all of them together; "
            "scan them as one area, or export each to its own file"
        )


@contextmanager
def slide_errors(path: Path) -> Iterator[None]:
    """Raise SlideError for a file's content and SlideUnavailableError for its storage.

    Every exception inside the block becomes one of the two, except a shortage of memory or threads,
    which is not the file's. tifffile raises errors of many kinds for malformed tags. Their own
    words, which say nothing to a technician, go to the log.

    Args:
        path: the file; its name begins the error's sentence.

    Raises:
        SlideError: the block raised anything but an OSError.
        SlideUnavailableError: the block raised an OSError.
    """
    try:
        yield
    except RefusedError as error:
        raise SlideError(path.name, str(error), error.code) from error
    except OSError as error:
        raise SlideUnavailableError(path.name, f"cannot be read: {error.strerror}") from error
    except Exception as error:
        if is_own_shortage(error):
            raise
        _log.info("slide_tags_not_understood", exc_info=True)
        reason = "has tags that cannot be understood; export it again from the scanner's software"
        raise SlideError(path.name, reason) from error
