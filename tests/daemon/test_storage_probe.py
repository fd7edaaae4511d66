"""The probe of storage that may not answer."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from waiting import wait_until

from her2d.daemon import storage_probe as storage
from her2d.daemon.storage_probe import FolderProbe, StorageProbe


@pytest.fixture
def server_is_back() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def hang(monkeypatch, server_is_back) -> Callable[..., None]:
    """Let every call for a folder wait until the server is back."""
    monkeypatch.setattr(storage, "_HANGS_AFTER_S", 0.5)
    statvfs = os.statvfs

    def begin(hanging) -> None:
        def waiting(folder):
            if folder == hanging:
                server_is_back.wait()
            return statvfs(folder)

        monkeypatch.setattr(os, "statvfs", waiting)

    return begin


@pytest.fixture
def inboxes(tmp_path):
    found = (tmp_path / "share", tmp_path / "local")
    for inbox in found:
        inbox.mkdir()
    return found


def test_a_folder_that_exists_has_no_problem_and_some_free_space(tmp_path):
    with closing(StorageProbe([tmp_path], tmp_path / "backups")) as found:
        seen = found.status(tmp_path)
        assert found.problem(tmp_path) is None
    assert 0 < seen.free_bytes <= seen.size_bytes


def test_a_missing_folder_cannot_be_read_but_is_reachable(tmp_path):
    absent = tmp_path / "absent"
    with closing(StorageProbe([absent], tmp_path / "backups")) as found:
        assert found.problem(absent) == f"The inbox {absent} cannot be read."
        assert found.is_reachable(absent)


def test_a_share_that_hangs_is_reported_and_other_inboxes_stay_reachable(
    tmp_path, inboxes, hang, server_is_back, monkeypatch
):
    share, local = inboxes
    with closing(StorageProbe(inboxes, tmp_path / "backups")) as found:
        hang(share)
        monkeypatch.setattr(storage, "_HANGS_AFTER_S", 600.0)
        wait_until(lambda: found.slow(within_s=0.1) == {share})
        monkeypatch.setattr(storage, "_HANGS_AFTER_S", 0.5)
        wait_until(lambda: found.hanging() == {share})
        assert found.problem(share) == f"The inbox {share} does not answer."
        assert found.status(share) is None
        assert not found.is_reachable(share / "a.tif")
        wait_until(lambda: found.is_reachable(local / "a.tif"))
        assert found.is_reachable(tmp_path / "outside.tif")
        server_is_back.set()
        wait_until(lambda: found.hanging() == frozenset())
        wait_until(lambda: found.is_reachable(share / "a.tif"))


def test_an_archive_that_hangs_is_not_reachable_and_not_reported_as_an_inbox(
    tmp_path, inboxes, hang
):
    archive = tmp_path / "archive"
    archive.mkdir()
    with closing(StorageProbe(inboxes, tmp_path / "backups", [archive])) as found:
        wait_until(lambda: found.is_reachable(archive / "day" / "a.tif"))
        hang(archive)
        assert not found.is_reachable(archive / "day" / "a.tif")
        wait_until(lambda: found.hanging() == frozenset())
        found.apply(inboxes, [])
        assert found.is_reachable(archive / "day" / "a.tif")


def test_a_share_that_hangs_from_the_start_is_reported(tmp_path, inboxes, hang):
    hang(inboxes[0])
    with closing(StorageProbe(inboxes, tmp_path / "backups")) as found:
        wait_until(lambda: found.hanging() == {inboxes[0]})


def test_an_inbox_hangs_if_a_file_system_mounted_below_it_hangs(tmp_path, hang, monkeypatch):
    below = tmp_path / "scanner" / "share"
    monkeypatch.setattr(storage, "mounts_below", lambda _: [below])
    hang(below)
    with closing(StorageProbe([tmp_path], tmp_path / "backups")) as found:
        assert found.hanging() == {tmp_path}


@pytest.fixture
def delay(monkeypatch) -> Callable[[float], None]:
    """Delay every answer by a number of seconds."""

    def begin(seconds: float) -> None:
        def late(inbox):
            time.sleep(seconds)
            return seen(inbox)

        monkeypatch.setattr(storage, "_folder_status", late)

    seen = storage._folder_status
    return begin


def test_the_first_answer_is_waited_for_and_a_later_one_only_as_long_as_is_asked():
    comes, answers = threading.Event(), iter([1, 2])

    def probe() -> int:
        comes.wait()
        comes.clear()
        return next(answers)

    with closing(FolderProbe(probe, every_s=3600)) as found:
        threading.Timer(0.3, comes.set).start()
        assert found.newest(within_s=0.0) == 1
        assert found.newest(within_s=0.1) == 1  # the second does not come
        comes.set()
        wait_until(lambda: found.answer == 2)


def test_a_probe_that_hangs_from_the_start_has_no_answer(monkeypatch):
    monkeypatch.setattr(storage, "_HANGS_AFTER_S", 0.2)
    goes_on = threading.Event()
    with closing(FolderProbe(goes_on.wait, every_s=3600)) as found:
        assert found.newest(within_s=0.0) is None
    goes_on.set()


def test_a_slow_share_is_reported_as_slow_only_at_times(tmp_path, delay):
    delay(0.3)
    with closing(StorageProbe([tmp_path], tmp_path / "backups")) as found:
        passes = []
        for _ in range(20):
            passes.append(found.slow(within_s=0.05))
            time.sleep(0.05)
        assert found.hanging() == frozenset()
    assert set(passes) == {frozenset(), frozenset({tmp_path})}


def test_a_share_that_answers_slowly_after_it_hung_has_not_recovered(tmp_path, delay, monkeypatch):
    monkeypatch.setattr(storage, "_HANGS_AFTER_S", 0.4)
    monkeypatch.setattr(storage, "_RECOVERED_WITHIN_S", 0.1)
    with closing(StorageProbe([tmp_path], tmp_path / "backups")) as found:
        delay(0.6)
        wait_until(lambda: found.hanging() == {tmp_path})
        delay(0.2)
        time.sleep(1)
        assert found.hanging() == {tmp_path}
        delay(0.0)
        wait_until(lambda: found.hanging() == frozenset())


def test_a_probe_that_fails_is_repeated(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(storage, "_folder_status", lambda _: 1 / 0)
        found = StorageProbe([tmp_path], tmp_path / "backups")
        assert found.hanging() == {tmp_path}
    with closing(found):
        wait_until(lambda: found.hanging() == frozenset())


def test_inboxes_can_be_added_and_removed(tmp_path, inboxes):
    share, local = inboxes
    with closing(StorageProbe([share], tmp_path / "backups")) as found:
        found.apply([local])
        assert found.status(local).readable
        assert found.status(share) is None
        assert found.hanging() == frozenset()
