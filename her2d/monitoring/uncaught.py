"""Log uncaught exceptions and warnings as one structured line each."""

import contextlib
import faulthandler
import logging
import sys
import threading
from types import TracebackType

from her2d.system.loggers import get_logger

log = get_logger(__name__)


def log_uncaught() -> None:
    """Log exceptions that end the process or a thread or are raised in `__del__`, and warnings.

    A crash in a library in C writes where each thread was to stderr.

    This sets hooks of the whole process. Only the daemon calls it.
    """
    sys.excepthook = _ends_the_process
    threading.excepthook = _ends_a_thread
    sys.unraisablehook = _is_ignored
    logging.captureWarnings(True)
    with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr is not a file
        faulthandler.enable()


def _ends_the_process(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    else:
        log.critical("process_failed", exc_info=(kind, error, trace))


def _ends_a_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:  # as Python's own hook does
        return
    name = args.thread.name if args.thread is not None else None
    error = args.exc_value or args.exc_type()
    log.critical("thread_failed", thread=name, exc_info=(args.exc_type, error, args.exc_traceback))


def _is_ignored(args: "sys.UnraisableHookArgs") -> None:
    error = args.exc_value or args.exc_type()
    log.error(
        "error_ignored",
        message=args.err_msg,
        raised_in=repr(args.object),
        exc_info=(args.exc_type, error, args.exc_traceback),
    )
