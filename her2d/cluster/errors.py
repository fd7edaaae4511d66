"""Errors of the cluster itself; those of a slide are in `her2d.processing.errors`."""

from her2d.errors import Her2dError


class ClusterUnavailableError(Her2dError):
    """The cluster cannot be reached; `str(error)` says why."""


class NodeRefusedError(Her2dError):
    """A node differs from what the daemon asks for, and is not used."""


class SameFileUnsureError(Her2dError):
    """Only its content hash can tell whether a node's file is the daemon's."""


class NodeError(Her2dError):
    """An error of a node of which only the words could be sent."""
