"""A real queue on a real database, and a clock that the test advances."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from her2d.db.connection import open_database
from her2d.intake.inbox import Inbox
from her2d.intake.settling import Completeness, Settledness
from her2d.queue.store import JobQueue
from her2d.settings import IntakeSettings


class Clock:
    """Monotonic seconds under the test's control."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


class Check:
    """A structural check that returns `settledness` and keeps the paths that it was called with."""

    def __init__(self) -> None:
        self.settledness = Settledness(Completeness.COMPLETE)
        self.checked: list[Path] = []

    def __call__(self, path: Path) -> Settledness:
        self.checked.append(path)
        return self.settledness


@contextmanager
def empty_queue() -> Iterator[JobQueue]:
    """Make an empty queue for one example of a law."""
    with tempfile.TemporaryDirectory() as folder:
        db = open_database(Path(folder) / "her2d.sqlite")
        db.execute("pragma synchronous = off")
        yield JobQueue(db)
        db.close()


@pytest.fixture
def jobs(tmp_path) -> Iterator[JobQueue]:
    db = open_database(tmp_path / "her2d.sqlite")
    yield JobQueue(db)
    db.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def check() -> Check:
    return Check()


@pytest.fixture
def inbox(jobs, folder, clock, check) -> Inbox:
    settings = IntakeSettings(inboxes=(folder,), settle_s=10, incomplete_after_s=3600)
    return Inbox(jobs, settings, check, clock)


@pytest.fixture
def settle(inbox, clock) -> Callable[[float], None]:
    """Let seconds pass, and call `settle` every half a second as the daemon does."""

    def pass_(seconds: float) -> None:
        for _ in range(round(seconds / 0.5)):
            inbox.settle()
            clock.pass_(0.5)
        inbox.settle()

    return pass_
