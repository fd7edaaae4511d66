"""Errors that a command prints as one sentence. Any other is a bug and ends with a traceback."""

import os
import sqlite3
import sys
from typing import NoReturn

from her2d.errors import Her2dError


class UserError(Her2dError):
    """A command cannot do what the user requested; the sentence says why."""


def sentence_of(error: BaseException) -> str | None:
    """Return the sentence with which an error ends a command; None if it is a bug."""
    if isinstance(error, sqlite3.Error):
        return f"The database cannot be used: {error}. her2d db check looks for damage."
    if isinstance(error, Her2dError) and isinstance(error, expected_errors()):
        return str(error)
    return None


def expected_errors() -> tuple[type[Her2dError], ...]:
    """Return the errors that end a command with one sentence.

    Their modules are imported here, because only a command that fails needs all of them.
    """
    from her2d.bundle.manifest import BundleError
    from her2d.db.connection import DatabaseError
    from her2d.db.lock import AlreadyRunningError
    from her2d.inference.engine import EngineError
    from her2d.monitoring.http import CannotListenError
    from her2d.queue.operator import RefusedByQueue
    from her2d.results.queries import (
        AmbiguousBundle,
        AmbiguousSlide,
        BundleNotFound,
        SlideNotFound,
    )
    from her2d.settings import SettingsError
    from her2d.slides.errors import SlideError

    return (
        AlreadyRunningError,
        AmbiguousBundle,
        AmbiguousSlide,
        BundleError,
        BundleNotFound,
        CannotListenError,
        DatabaseError,
        EngineError,
        RefusedByQueue,
        SettingsError,
        SlideError,
        SlideNotFound,
        UserError,
    )


def is_device_lost(error: BaseException) -> bool:
    """Return whether the GPU is lost to this process."""
    from her2d.inference.engine import DeviceLostError

    return isinstance(error, DeviceLostError)


def end_at_once(code: int) -> NoReturn:
    """End the process without cleaning up.

    CUDA's libraries may hang, abort or print warnings when they clean up for a lost device.
    """
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
