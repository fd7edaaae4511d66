"""What asks storage that may never answer."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from her2d import storage
from her2d.storage import Storage


@pytest.fixture
def server_is_back() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def hang(monkeypatch, server_is_back) -> Callable[..., None]:
    """Let whoever asks for that folder wait until the server is back."""
    monkeypatch.setattr(storage, "_HANGS_AFTER_S", 0.2)
    access = os.access

    def begin(hanging) -> None:
        def waiting(folder, mode) -> bool:
            if folder == hanging:
                server_is_back.wait()
            return access(folder, mode)

        monkeypatch.setattr(os, "access", waiting)

    return begin


@pytest.fixture
def inboxes(tmp_path):
    found = (tmp_path / "share", tmp_path / "local")
    for inbox in found:
        inbox.mkdir()
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_folder_that_is_there_has_no_trouble_and_some_room(tmp_path):
    with closing(Storage([tmp_path], tmp_path / "backups")) as found:
        seen = found.seen(tmp_path)
        assert found.trouble(tmp_path) is None
    assert 0 < seen.free_bytes <= seen.size_bytes


def test_a_folder_that_is_not_there_answers_that_it_cannot_be_read(tmp_path):
    absent = tmp_path / "absent"
    with closing(Storage([absent], tmp_path / "backups")) as found:
        assert found.trouble(absent) == f"The inbox {absent} cannot be read."
        assert found.answers(absent)


def test_a_share_that_hangs_is_told_and_hides_no_other(tmp_path, inboxes, hang, server_is_back):
    share, local = inboxes
    with closing(Storage(inboxes, tmp_path / "backups")) as found:
        hang(share)
        wait_until(lambda: not found.answers(share, within_s=0.1))
        wait_until(lambda: found.hanging() == {share})
        assert found.trouble(share) == f"The inbox {share} does not answer."
        assert found.seen(share) is None
        assert found.answers(local)
        server_is_back.set()
        wait_until(lambda: found.hanging() == frozenset())
        assert found.answers(share)


def test_a_share_that_hangs_from_the_start_is_known_to(tmp_path, inboxes, hang):
    hang(inboxes[0])
    with closing(Storage(inboxes, tmp_path / "backups")) as found:
        assert found.hanging() == {inboxes[0]}


def test_an_inbox_hangs_with_what_is_mounted_below_it(tmp_path, hang, monkeypatch):
    below = tmp_path / "scanner" / "share"
    monkeypatch.setattr(storage, "mounts_below", lambda _: [below])
    hang(below)
    with closing(Storage([tmp_path], tmp_path / "backups")) as found:
        assert found.hanging() == {tmp_path}


def test_inboxes_may_come_and_go(tmp_path, inboxes):
    share, local = inboxes
    with closing(Storage([share], tmp_path / "backups")) as found:
        found.apply([local])
        assert found.seen(local).readable
        assert found.seen(share) is None
        assert found.hanging() == frozenset()
