"""Room for files that a node lacks, on its disk."""

import os
import subprocess
import sys
import threading

import pytest

from her2d.cluster.plan import Part
from her2d.cluster.spool import NoRoomError, ReceiveError, Spool


def wait_nothing() -> None:
    pass


def test_a_second_file_waits_for_the_room_of_the_first(tmp_path):
    spool = Spool(tmp_path, 1000)
    waiting, has_room = threading.Event(), threading.Event()

    def second() -> None:
        with spool.file(600, waiting.set):
            has_room.set()

    with spool.file(600, wait_nothing):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        assert not has_room.is_set()
    thread.join(30)
    assert has_room.is_set()


def test_a_file_takes_its_room_on_the_disk_at_once_and_has_no_name(tmp_path):
    with Spool(tmp_path, 10**6).file(500_000, wait_nothing) as file:
        assert os.fstat(file.descriptor).st_blocks * 512 >= 500_000
        assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_process_that_is_killed_leaves_nothing_behind(tmp_path):
    code = (
        "import os, sys, pathlib; from her2d.cluster.plan import Part\n"
        "from her2d.cluster.spool import Spool\n"
        "with Spool(pathlib.Path(sys.argv[1]), 10**6).file(9, lambda: None) as file:\n"
        "    file.write(Part(0, b'x')); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == -9
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_the_first_byte(tmp_path, monkeypatch):
    monkeypatch.setattr("her2d.cluster.spool._LEFT_FREE", 10**18)
    with (
        pytest.raises(NoRoomError, match="has no 1 MB free"),
        Spool(tmp_path, 10**7).file(10**6, wait_nothing),
    ):
        pass


def test_a_folder_that_is_missing_is_named(tmp_path):
    folder = tmp_path / "nowhere"
    with (
        pytest.raises(NoRoomError, match=f"{folder} cannot be used: No such file"),
        Spool(folder, 10**7).file(10, wait_nothing),
    ):
        pass


def test_a_part_outside_the_file_is_refused(tmp_path):
    with Spool(tmp_path, 10**7).file(10, wait_nothing) as file:
        file.write(Part(8, b"abc"))
        with pytest.raises(ReceiveError, match="outside the file"):
            file.wait(wait_nothing, 1)


def test_room_is_freed_after_a_failure(tmp_path):
    spool = Spool(tmp_path, 10)
    for _ in range(3):
        with pytest.raises(RuntimeError), spool.file(10, wait_nothing):
            raise RuntimeError


def test_a_part_that_comes_when_its_file_is_closed_is_written_into_no_other_file(tmp_path):
    with Spool(tmp_path, 10**6).file(10, wait_nothing) as file:
        pass
    with (tmp_path / "other").open("w+b") as other:
        assert other.fileno() == file.descriptor
        file.write(Part(0, b"abc"))
        assert (tmp_path / "other").read_bytes() == b""
