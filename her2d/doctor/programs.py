"""The machine's own programs, asked."""

import shutil
import subprocess

from her2d.errors import Her2dError

_ANSWER_S = 10.0


class NoAnswerError(Her2dError):
    """The program did not answer; `str(error)` says so in a sentence."""


def answer_of(*command: str) -> str | None:
    """What the program prints, None where there is none of its name.

    Raises:
        NoAnswerError: it did not end in time, or cannot be started.
    """
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_ANSWER_S
        ).stdout
    except subprocess.TimeoutExpired as error:
        raise NoAnswerError(f"{command[0]} did not answer within {_ANSWER_S:.0f} s.") from error
    except OSError as error:
        raise NoAnswerError(f"{command[0]} cannot be started: {error.strerror}.") from error
