"""Can the inboxes be read, do events really arrive, and does their clock agree with ours?"""

import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from her2d.daemon.storage_probe import inbox_answers
from her2d.doctor.finding import Finding, failure, ok, warning
from her2d.intake.watcher import Watcher

ANSWER_S = 5.0
_EVENT_S = 5.0
_CLOCK_S = 60.0


def inbox_findings(inbox: Path) -> Iterator[Finding]:
    """Look at one inbox; where it can be written, with a file that is there for a moment."""
    check = f"inbox {inbox}"
    if not inbox_answers(inbox, ANSWER_S):
        yield failure(
            check,
            f"It has not answered for {ANSWER_S:.0f} s.",
            "It is a share: look after its server and the network; whatever touches it waits.",
        )
        return
    try:
        there = inbox.is_dir()
    except PermissionError:
        there = True  # and closed, which is told below
    if not there:
        yield failure(
            check,
            "There is no such folder.",
            "Make it, or mount its share, or correct [intake] inboxes.",
        )
        return
    if not os.access(inbox, os.R_OK | os.X_OK, effective_ids=True):
        yield failure(
            check,
            f"It cannot be read by {_user()}.",
            f"Let {_user()} read it: chmod, or make it a member of the folder's group.",
        )
        return
    yield ok(check, "It can be read.")
    if not os.access(inbox, os.W_OK, effective_ids=True):
        yield ok(check, "It cannot be written, so events were not tried; sweeps find every file.")
        return
    yield from _tried(inbox, check)


def _tried(inbox: Path, check: str) -> Iterator[Finding]:
    wake = threading.Event()
    watcher = Watcher(wake)
    try:
        watcher.watch(inbox)
        with tempfile.NamedTemporaryFile(dir=inbox, prefix=".her2d-doctor-") as file:
            file.write(b"a moment")
            file.flush()
            written_at = time.time()
            yield _clock(check, Path(file.name).stat().st_mtime - written_at)
            arrived = _arrives(watcher, wake, Path(file.name))
    except OSError as error:
        yield warning(
            check,
            f"Events cannot be had: {error.strerror or error}.",
            "If the limit of watches is reached: sysctl fs.inotify.max_user_watches=524288.",
        )
        return
    finally:
        watcher.stop()
    if arrived:
        yield ok(check, "Events arrive.")
    else:
        yield warning(
            check,
            f"No event arrived within {_EVENT_S:.0f} s.",
            "Network shares tell of nothing. Nothing is lost: sweeps find each file, a little"
            " later. A shorter [intake] sweep_s finds it sooner.",
        )


def _arrives(watcher: Watcher, wake: threading.Event, path: Path) -> bool:
    deadline = time.monotonic() + _EVENT_S
    while (left := deadline - time.monotonic()) > 0:
        named = watcher.take()
        if named is None or path in named:  # None: so many arrived that they were not kept
            return True
        wake.wait(left)
        wake.clear()
    return False


def _clock(check: str, ahead_s: float) -> Finding:
    if abs(ahead_s) <= _CLOCK_S:
        return ok(check, "Its clock agrees with this machine's.")
    way = "ahead of" if ahead_s > 0 else "behind"
    return warning(
        check,
        f"Its clock is {abs(ahead_s):.0f} s {way} this machine's.",
        "Let both follow a time server (timedatectl set-ntp true).",
    )


def _user() -> str:
    return f"user {os.geteuid()}"
