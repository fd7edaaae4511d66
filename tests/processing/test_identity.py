"""A scan of several files has one content and one state."""

import os
import shutil

import numpy as np
import pytest
from dicom_slides import write_dicom_slide

from her2d.processing.identity import scan_hash, scan_state
from her2d.system.file_identity import FileState, content_hash


@pytest.fixture
def folder(tmp_path):
    return write_dicom_slide(tmp_path / "a", [np.full((300, 300, 3), 200, np.uint8)])


def test_a_file_has_the_hash_of_its_bytes(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"scan")
    assert scan_hash(path) == content_hash(path)
    assert scan_state(path) == FileState.of(path)


def test_a_dicom_slide_keeps_its_hash_when_its_files_get_other_names(folder, tmp_path):
    before = scan_hash(folder)
    copy = tmp_path / "export"
    copy.mkdir()
    for number, file in enumerate(sorted(folder.iterdir(), reverse=True)):
        shutil.copy(file, copy / f"IM{number:04}")
    assert scan_hash(copy) == before


def test_another_file_or_another_byte_makes_another_scan(folder):
    before, state = scan_hash(folder), scan_state(folder)
    file = folder / "slide-0.dcm"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(0, state.mtime_ns + 1000))
    assert scan_hash(folder) != before
    assert scan_state(folder) != state
    now = scan_hash(folder)
    shutil.copy(file, folder / "once-more.dcm")
    assert scan_hash(folder) != now


def test_files_that_do_not_belong_to_the_scan_change_nothing(folder):
    before = scan_hash(folder), scan_state(folder)
    (folder / "notes.txt").write_text("x")
    assert (scan_hash(folder), scan_state(folder)) == before


def test_progress_is_reported_for_each_file(folder):
    calls = []
    scan_hash(folder, on_progress=lambda: calls.append(1))
    assert len(calls) >= len(list(folder.iterdir()))
