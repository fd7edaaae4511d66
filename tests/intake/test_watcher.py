"""The paths that file-system events name."""

import errno
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from captured_logs import capture_logs
from waiting import wait_until

from her2d.intake.watcher import UnwatchableError, Watcher


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
    """Take paths until one has the given name."""

    def until(name: str) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if any(path.name == name for path in watcher.take() or ()):
                return
            time.sleep(0.01)
        raise AssertionError(f"no event named {name}")

    return until


def test_the_path_of_a_new_file_is_collected_and_wake_is_set(watcher, wake, folder, collect):
    watcher.watch(folder)
    (folder / "a.tif").write_bytes(b"x")
    collect("a.tif")
    assert wake.is_set()


def test_the_new_path_of_a_renamed_file_is_collected(watcher, folder, collect):
    (folder / ".a.part").write_bytes(b"x")
    watcher.watch(folder)
    (folder / ".a.part").rename(folder / "a.tif")
    collect("a.tif")


def test_a_file_of_an_inbox_that_is_a_link_is_reported_below_the_link(watcher, folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    watcher.watch(link)
    (folder / "a.tif").write_bytes(b"x")
    paths = set()
    wait_until(lambda: paths.update(watcher.take() or ()) or paths)
    assert link / "a.tif" in paths


def test_a_folder_with_two_paths_that_is_created_again_is_watched_under_both(
    watcher, folder, tmp_path
):
    link = tmp_path / "link"
    link.symlink_to(folder)
    names = (folder, link)
    for name in names:
        watcher.watch(name)
    folder.rmdir()
    folder.mkdir()

    def is_reported() -> bool:
        # As each sweep does: the deletion of a folder is reported a moment later.
        for name in names:
            watcher.watch(name)
        (folder / "later.tif").write_bytes(b"x")
        return any(path.name == "later.tif" for path in watcher.take() or ())

    wait_until(is_reported)


def test_a_folder_with_two_paths_is_still_watched_if_one_is_forgotten(
    watcher, folder, tmp_path, collect
):
    link = tmp_path / "link"
    link.symlink_to(folder)
    watcher.watch(link)
    watcher.watch(folder)
    watcher.forget(link)
    (folder / "a.tif").write_bytes(b"x")
    collect("a.tif")
    watcher.forget(folder)


def test_the_path_of_a_folder_that_is_moved_into_the_inbox_is_collected(
    watcher, folder, tmp_path, collect
):
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready" / "a.tif").write_bytes(b"x")
    watcher.watch(folder)
    (tmp_path / "ready").rename(folder / "ready")
    collect("ready")


def test_a_folder_that_was_deleted_and_created_again_gets_a_new_watch(watcher, folder, collect):
    assert watcher.watch(folder)
    assert not watcher.watch(folder)
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        watcher.watch(folder)
    folder.mkdir()
    assert watcher.watch(folder)
    (folder / "a.tif").write_bytes(b"x")
    collect("a.tif")


def test_take_returns_none_if_there_were_more_paths_than_can_be_kept(watcher, folder, monkeypatch):
    monkeypatch.setattr("her2d.intake.watcher._MOST_PATHS", 100)
    watcher.watch(folder)
    for number in range(1000):
        (folder / f"{number}.tif").touch()
    deadline = time.monotonic() + 60
    while watcher.take() is not None:
        assert time.monotonic() < deadline
        time.sleep(1)


def kill_emitter(watcher: Watcher) -> None:
    """Let the thread die that translates a folder's events."""
    (emitter,) = watcher._observer.emitters
    emitter.queue_events = dies


def kill_dispatcher(watcher: Watcher) -> None:
    """Let the thread die that calls the event handlers."""
    watcher._observer.dispatch_events = dies


def kill_reader(watcher: Watcher) -> None:
    """Let the thread die that reads the kernel's queue."""
    watcher._observer._inotify_fd.handle_event = dies


def dies(*_, **__):
    raise SystemExit


@pytest.mark.parametrize("kill", [kill_emitter, kill_dispatcher, kill_reader])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_noticed_and_its_folder_is_watched_again(
    watcher, folder, collect, kill
):
    watcher.watch(folder)
    assert watcher.restarts == 0
    kill(watcher)
    # A thread that waits for an event dies at its next one.
    for name in ("first.tif", "second.tif"):
        (folder / name).write_bytes(b"x")
    with capture_logs() as log:
        wait_until(lambda: not watcher.check())
    assert [line["event"] for line in log] == ["inbox_watch_died"]
    assert watcher.restarts == 1
    assert watcher.check()
    assert watcher.watch(folder)
    (folder / "a.tif").write_bytes(b"x")
    collect("a.tif")
    assert watcher.restarts == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_that_cannot_be_started_again_at_once_are_started_later(
    watcher, folder, collect, monkeypatch
):
    watcher.watch(folder)
    kill_emitter(watcher)
    (folder / "lost.tif").write_bytes(b"x")
    wait_until(lambda: not watcher.check())
    with monkeypatch.context() as patch:
        patch.setattr("her2d.intake.watcher.Observer", too_many_instances)
        for _ in range(2):
            assert watcher.check()
            with pytest.raises(OSError, match="instance limit"):
                watcher.watch(folder)
    assert watcher.watch(folder)
    (folder / "a.tif").write_bytes(b"x")
    collect("a.tif")


def too_many_instances():
    raise OSError(errno.EMFILE, "inotify instance limit reached")


def test_a_folder_whose_watch_ended_because_it_was_deleted_is_no_dead_thread(watcher, folder):
    watcher.watch(folder)
    folder.rmdir()
    wait_until(lambda: not any(each.is_alive() for each in watcher._observer.emitters))
    assert watcher.check()


def test_more_folders_than_are_watched_are_refused(watcher, folder, monkeypatch):
    monkeypatch.setattr("her2d.intake.watcher._MOST_FOLDERS", 10)
    for number in range(20):
        (folder / str(number)).mkdir()
    with pytest.raises(UnwatchableError, match="more than 10 folders"):
        watcher.watch(folder)


def test_a_watcher_without_a_watch_needs_nothing_of_the_system(wake, monkeypatch, folder):
    """The system's limit of programs that watch may be reached; the daemon starts all the same."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr("her2d.intake.watcher.Observer", refuse)
    watcher = Watcher(wake)
    with pytest.raises(OSError, match="limit reached"):
        watcher.watch(folder)
    assert watcher.check()
    watcher.stop()
