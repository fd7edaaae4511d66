"""Write the file that a user named."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from her2d.system.files import replacing


@contextmanager
def file_to_write(output: Path) -> Iterator[Path]:
    """Yield the file to write in place of `output`, which is replaced when the file is complete.

    A pipe or a device, such as /dev/stdout, is written directly.

    Raises:
        OSError: the file cannot be written.
    """
    if output.exists() and not output.is_file():
        yield output
        return
    with replacing(output.resolve()) as part:
        yield part
