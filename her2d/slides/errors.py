"""What can be wrong with a slide, in words a technician understands."""

from her2d.errors import Her2dError


class SlideError(Her2dError):
    """A file cannot be read as a whole-slide image.

    `str(error)` is one sentence: the file's name, then `reason`.

    Attributes:
        name: the file's name, without its folder.
        reason: the rest of the sentence, such as "is cut short: ...".
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type["SlideError"], tuple[str, str]]:
        return type(self), (self.name, self.reason)


class SlideUnavailableError(SlideError):
    """The storage failed, not the slide: the share went away, permission is missing.

    Worth another try later. Its cause is the OSError.
    """


class RefusedError(Her2dError):
    """Why something in a file cannot be used; `str(error)` continues the sentence "FILE ...".

    Raised inside this package, where the file's name is not known.
    """
