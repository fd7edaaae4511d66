"""The content hash, and the identity of files."""

import hashlib
import os
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from touched_files import rewrite_in_place

from her2d.system.file_identity import FileState, content_hash
from her2d.system.linux import be_idle


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1])
def test_the_hash_depends_only_on_the_content(tmp_path, size):
    content = os.urandom(size)
    for name in ("a.tif", "b.tif"):
        (tmp_path / name).write_bytes(content)
    expected = hashlib.blake2b(content, digest_size=32).hexdigest()
    assert content_hash(tmp_path / "a.tif") == content_hash(tmp_path / "b.tif")
    assert content_hash(tmp_path / "a.tif") == f"blake2b:{expected}"


def test_hashing_reports_progress_and_can_be_interrupted(tmp_path):
    (tmp_path / "a.tif").write_bytes(bytes(3 * 2**20))
    calls = []

    def on_progress():
        calls.append(1)
        if len(calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        content_hash(tmp_path / "a.tif", on_progress=on_progress)


states = st.builds(
    FileState, st.integers(0, 3), st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)
)


@given(states, states)
def test_same_file_is_symmetric(one, other):
    assert one.same_file(other) == other.same_file(one)


@given(states)
def test_an_unknown_inode_equals_any_other(state):
    assert state.same_file(FileState(0, state.size, state.mtime_ns))


@given(states, states)
def test_a_renamed_file_is_the_same_and_has_changed(one, other):
    renamed = replace(one, ctime_ns=one.ctime_ns + 1)
    assert renamed.same_file(one)
    assert renamed.is_unchanged(one) == (one.ctime_ns == 0)
    assert not renamed.is_surely_unchanged(one)
    assert one.is_surely_unchanged(other) <= one.is_unchanged(other) <= one.same_file(other)


def test_a_change_with_the_time_put_back_shows_in_the_change_time(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"scan")
    before = FileState.of(path)
    rewrite_in_place(path)
    after = FileState.of(path)
    assert after.same_file(before)
    assert not after.is_unchanged(before)


def test_two_files_on_a_disk_have_different_inodes(tmp_path):
    (tmp_path / "a").touch()
    if not os.major((tmp_path / "a").stat().st_dev):
        pytest.skip("temporary files lie on no block device")
    (tmp_path / "b").touch()
    assert FileState.of(tmp_path / "a").inode != FileState.of(tmp_path / "b").inode


def test_idle_priority_applies_to_one_thread_only():
    nice = {}

    def idle():
        be_idle()
        nice["idle"] = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    thread = threading.Thread(target=idle)
    thread.start()
    thread.join()
    assert nice["idle"] == 19
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
