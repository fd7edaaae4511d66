"""Read a graph once: the bytes that are verified are the bytes that are loaded."""

from pathlib import Path

from her2d.bundle.loading import read_verified
from her2d.bundle.manifest import BundleError
from her2d.inference.engine import EngineError


def read_graph(path: Path, sha256: str) -> bytes:
    """Return the content of a graph's file.

    Raises:
        EngineError: the file cannot be read, or is not the one that was verified.
    """
    try:
        return read_verified(path, sha256)
    except BundleError as error:
        raise EngineError(str(error)) from error
