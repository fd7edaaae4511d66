"""Log what is written to stderr past the log: by libraries in C, by the interpreter, by a crash.

ONNX Runtime, libtiff and glibc write plain lines to file descriptor 2, which a reader of a JSON log
cannot parse. The descriptor becomes a pipe, and a child process logs each line that arrives in it
as an event. It is a process and not a thread, because the last words of a crash arrive when this
process can run nothing more, and because a library may write while it keeps all threads of Python
waiting. The child ends when no process can write to the pipe any more.
"""

import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator

from her2d.system.loggers import get_logger

log = get_logger(__name__)

LONGEST = 2000
"""Bytes of a line; what is longer is logged in parts."""

_PIPE_BYTES = 2**20  # holds the tracebacks of all threads, which a crash writes at once
_STDIN_STDOUT_STDERR = 3
_PATIENCE_S = 2.0
_STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def stderr_lines_logged() -> Iterator[None]:
    """Log all that is written to stderr within the block as events, and the log itself as before.

    Only the daemon calls this, before it starts a thread. If the log is not read, these lines are
    lost rather than waited for. Nothing happens if stderr is not a file.
    """
    try:
        descriptor = sys.stderr.fileno()
        target = os.dup(descriptor)
    except (OSError, ValueError, AttributeError):
        yield
        return
    sys.stderr.flush()
    _write_log_to(target)
    reading, writing = os.pipe()
    with contextlib.suppress(OSError):  # more than this user may have; the default holds 64 KiB
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    # A signal to the whole group may come before the child ignores it, and would end the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    if (child := os.fork()) == 0:
        with contextlib.suppress(BaseException):
            os.close(writing)
            _log_all(reading)
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(reading)
    os.set_blocking(writing, False)
    os.dup2(writing, descriptor)
    os.close(writing)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(target, descriptor)
        _wait_for(child)


def _write_log_to(descriptor: int) -> None:
    stream = os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)


def _wait_for(child: int) -> None:
    """Wait until all lines are logged. A process that outlives this one may hold the pipe open."""
    deadline = time.monotonic() + _PATIENCE_S
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
            time.sleep(0.01)


def _log_all(reading: int) -> None:
    """Run the child process."""
    # Stopping is the daemon's matter; what it says meanwhile is still logged.
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for inherited in range(_STDIN_STDOUT_STDERR):
        os.dup2(nowhere, inherited)
    # The last words of a crash are logged at any level.
    logging.getLogger().setLevel(logging.WARNING)
    for line in _lines(reading):
        log.warning("stderr_line", line=line)


def _lines(reading: int) -> Iterator[str]:
    """Yield the lines that arrive in a pipe until it is closed, without empty ones."""
    rest = b""
    while data := os.read(reading, 65536):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield from _parts(line)
        while len(rest) > LONGEST:
            yield from _parts(rest[:LONGEST])
            rest = rest[LONGEST:]
    yield from _parts(rest)


def _parts(line: bytes) -> Iterator[str]:
    line = line.rstrip()
    for at in range(0, len(line), LONGEST):
        yield line[at : at + LONGEST].decode("utf-8", "backslashreplace")
