"""Errors of a slide that could be opened and has no recorded result."""

from functools import partial
from typing import Any

from her2d.errors import Her2dError
from her2d.slides.errors import SlideError


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


class ClusterLostError(Her2dError):
    """The node that scored a slide, or the whole cluster, was lost. The slide is not the cause."""


class ResultLostError(Her2dError):
    """A node has no room for a slide's result. The slide is not the cause."""


class ActorCrashedError(Her2dError):
    """A node's process ended or hung while it scored a slide. Either may be the cause.

    Attributes:
        node: the node's name; None if it is not known.
        scored: number of slides that the node had scored until then.
    """

    def __init__(self, message: str, node: str | None = None, scored: int = 0) -> None:
        super().__init__(message)
        self.node = node
        self.scored = scored

    def __reduce__(self) -> tuple[Any, tuple[str, str | None, int]]:
        return type(self), (str(self), self.node, self.scored)


class ScanNotOnNodeError(Her2dError):
    """A node can neither open nor receive a scan, does not reach it, or finds other content."""


class UnreadableOnNodeError(Her2dError):
    """A node has opened a scan and cannot read it. Its mount may be the cause, or the file.

    Attributes:
        file_name: the scan's.
        node: the node's name.
        detail: what its system says.
        is_readable_here: whether the daemon's machine has read all of the file in this attempt, so
            that the node is the cause.
    """

    def __init__(
        self, file_name: str, node: str, detail: str, *, is_readable_here: bool = False
    ) -> None:
        here = ", and this machine can" if is_readable_here else ""
        super().__init__(f"The node {node} cannot read {file_name}{here}: {detail}.")
        self.file_name = file_name
        self.node = node
        self.detail = detail
        self.is_readable_here = is_readable_here

    def on_node(self, name: str) -> "UnreadableOnNodeError":
        """Return the same error of a node of another name."""
        return type(self)(self.file_name, name, self.detail, is_readable_here=self.is_readable_here)

    def though_readable_here(self) -> "UnreadableOnNodeError":
        """Return the same error of a file that the daemon's machine has read."""
        return type(self)(self.file_name, self.node, self.detail, is_readable_here=True)

    def __reduce__(self) -> tuple[Any, tuple[str, str, str]]:
        whole = partial(type(self), is_readable_here=self.is_readable_here)
        return whole, (self.file_name, self.node, self.detail)


class UnreadableHereError(Her2dError):
    """The daemon's machine cannot read a scan either, which a node could not read before.

    Attributes:
        file_name: the scan's.
        detail: what the system says.
    """

    def __init__(self, file_name: str, detail: str) -> None:
        super().__init__(f"This machine cannot read {file_name}: {detail}.")
        self.file_name = file_name
        self.detail = detail


class TooFewTilesError(SlideError):
    """Too few tiles of a slide could be read to call it. The cause is the file, not the tissue.

    Attributes:
        is_io_error: whether another attempt may read enough, because the storage returned I/O
            errors, and what is lost for other reasons is not too much by itself.
    """

    def __init__(self, name: str, reason: str, *, is_io_error: bool = False) -> None:
        super().__init__(name, reason)
        self.is_io_error = is_io_error

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return partial(type(self), is_io_error=self.is_io_error), (self.name, self.reason)
