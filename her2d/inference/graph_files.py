"""Load a graph as it was verified: the bytes that are hashed are the bytes that are loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from her2d.bundle.loading import read_verified, verify
from her2d.bundle.manifest import BundleError
from her2d.inference.engine import EngineError
from her2d.system.file_identity import FileState
from her2d.system.memory import give_back_free_memory


def read_graph(path: Path, sha256: str) -> bytes:
    """Return the content of a graph's file.

    Raises:
        EngineError: the file cannot be read, or is not the one that was verified.
    """
    try:
        return read_verified(path, sha256)
    except BundleError as error:
        raise EngineError(str(error)) from error


@contextmanager
def loading_graph(path: Path, sha256: str) -> Iterator[str]:
    """Give a library the path of a graph, which it reads itself while the block runs.

    The content as an argument would be in memory once more, 500 MB at the paper's size. What
    loading has freed is returned to the system afterwards, so that the next graph finds it.

    Raises:
        EngineError: the file cannot be read, is not the one that was verified, or was changed
            while the library read it.
    """
    try:
        before = FileState.of(path)
        verify(path, sha256)
        yield str(path)
        unchanged = FileState.of(path).is_unchanged(before)
    except BundleError as error:
        raise EngineError(str(error)) from error
    except OSError as error:
        raise EngineError(f"{path} cannot be read: {error.strerror}.") from error
    if not unchanged:
        raise EngineError(f"{path} was changed while it was loaded. Start again.")
    give_back_free_memory()
