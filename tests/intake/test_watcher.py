"""Events -> paths worth a look."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from her2d.intake import Watcher


@pytest.fixture
def wake() -> threading.Event:
    return threading.Event()


@pytest.fixture
def watcher(wake) -> Iterator[Watcher]:
    watcher = Watcher(wake)
    yield watcher
    watcher.stop()


@pytest.fixture
def collect(watcher) -> Callable[[str], None]:
    """Take paths until one has that name."""

    def until(name: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(path.name == name for path in watcher.take() or ()):
                return
            time.sleep(0.01)
        raise AssertionError(f"no event named {name}")

    return until


def test_a_new_file_is_named_and_somebody_is_woken(watcher, wake, folder, collect):
    watcher.watch(folder)
    (folder / "a.tif").write_bytes(b"x")
    collect("a.tif")
    assert wake.is_set()


def test_a_rename_into_place_is_named(watcher, folder, collect):
    (folder / ".a.part").write_bytes(b"x")
    watcher.watch(folder)
    (folder / ".a.part").rename(folder / "a.tif")
    collect("a.tif")


def test_a_folder_moved_in_is_named(watcher, folder, tmp_path, collect):
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready" / "a.tif").write_bytes(b"x")
    watcher.watch(folder)
    (tmp_path / "ready").rename(folder / "ready")
    collect("ready")


def test_a_folder_that_was_removed_and_made_anew_is_watched_anew(watcher, folder, collect):
    assert watcher.watch(folder)
    assert not watcher.watch(folder)
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        watcher.watch(folder)
    folder.mkdir()
    assert watcher.watch(folder)
    (folder / "a.tif").write_bytes(b"x")
    collect("a.tif")


def test_more_events_than_can_be_kept_are_said_to_have_been(watcher, folder, tmp_path):
    watcher.watch(folder)
    deadline = time.monotonic() + 120
    number = 0
    while time.monotonic() < deadline:
        for _ in range(11_000):
            (folder / f"{number}.tif").touch()
            number += 1
        time.sleep(0.5)
        if watcher.take() is None:
            return
    raise AssertionError("every event was kept")
