"""Why a slide that could be read has no recorded result."""

from her2d.errors import Her2dError


class DuplicateScanError(Her2dError):
    """The same bytes already have a result by the same bundle."""

    def __init__(self, slide_id: int, digest: str) -> None:
        super().__init__(f"The same scan was already processed as slide {slide_id}.")
        self.slide_id = slide_id
        self.content_hash = digest


class FileChangedError(Her2dError):
    """The file was written to while it was read, or since it had settled."""


class ClaimLostError(Her2dError):
    """Another worker or process has claimed the job; nothing was recorded."""


class UnreadableStorageError(Her2dError):
    """The storage returned I/O errors for parts of the file; another attempt may read more."""


class ResultsUnwritableError(Her2dError, OSError):
    """The heatmap cannot be written; nothing was recorded. The slide is not the cause."""
