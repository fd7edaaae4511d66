"""One daemon for each database."""

import subprocess
import sys

import pytest

from her2d.db.lock import AlreadyRunningError, hold_daemon_lock

HOLD = """
import sys, pathlib
from her2d.db.lock import hold_daemon_lock
with hold_daemon_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(database):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_the_error_of_a_second_daemon_names_the_process_that_holds_the_database(tmp_path):
    database = tmp_path / "her2d.sqlite"
    with hold(database) as holder:
        with (
            pytest.raises(AlreadyRunningError, match=f"process {holder.pid}"),
            hold_daemon_lock(database),
        ):
            pass
        holder.stdin.close()


def test_a_killed_daemon_leaves_no_lock(tmp_path):
    database = tmp_path / "her2d.sqlite"
    with hold(database) as holder:
        holder.kill()
        holder.wait()
        with hold_daemon_lock(database):
            pass


def test_the_lock_can_be_taken_again_after_a_release(tmp_path):
    for _ in range(2):
        with hold_daemon_lock(tmp_path / "her2d.sqlite"):
            pass
