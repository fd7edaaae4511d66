"""Run the operating system's own programs."""

import shutil
import subprocess

from her2d.errors import Her2dError

_TIMEOUT_S = 10.0


class NoAnswerError(Her2dError):
    """A program did not end in time or cannot be started; `str(error)` is a sentence."""


def output_of(*command: str) -> str | None:
    """Return what the program prints, or None if it is not installed.

    Raises:
        NoAnswerError: the program did not end in time or cannot be started.
    """
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise NoAnswerError(f"{command[0]} did not answer within {_TIMEOUT_S:.0f} s.") from error
    except OSError as error:
        raise NoAnswerError(f"Cannot start {command[0]}: {error.strerror}.") from error
