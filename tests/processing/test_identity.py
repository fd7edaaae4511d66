"""A scan of several files has one content and one state."""

import os
import shutil

import numpy as np
import pytest
from dicom_slides import write_dicom_slide
from touched_files import rewrite_in_place

from her2d.processing.errors import FileChangedError
from her2d.processing.identity import open_scan
from her2d.slides.errors import SlideError
from her2d.system.file_identity import FileState, content_hash


@pytest.fixture
def folder(tmp_path):
    return write_dicom_slide(tmp_path / "a", [np.full((300, 300, 3), 200, np.uint8)])


def scan_hash(path, on_progress=lambda: None):
    with open_scan(path) as scan:
        return scan.content_hash(on_progress)


def scan_state(path):
    with open_scan(path) as scan:
        return scan.state


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
    scan_hash(folder, lambda: calls.append(1))
    assert len(calls) >= len(list(folder.iterdir()))


def test_a_scan_of_several_files_that_changes_is_noticed(folder):
    with open_scan(folder) as scan:
        scan.require_unchanged()
        rewrite_in_place(folder / "slide-0.dcm")
        with pytest.raises(FileChangedError):
            scan.require_unchanged()


@pytest.mark.parametrize("linked", ["a.tif", "day", "day/deep"])
def test_no_link_below_the_inbox_is_followed(tmp_path, linked):
    inbox, outside = tmp_path / "inbox", tmp_path / "outside"
    for folder in (inbox, outside):
        (folder / "day" / "deep").mkdir(parents=True)
        for name in ("a.tif", "day/deep/a.tif"):
            (folder / name).write_bytes(b"scan")
    path = inbox / ("a.tif" if linked == "a.tif" else "day/deep/a.tif")
    with open_scan(path, inbox) as scan:
        assert scan.path == path
    (inbox / linked).rename(tmp_path / "away")
    (inbox / linked).symlink_to(outside / linked)
    with pytest.raises(SlideError, match="a link, and links in an inbox are not followed"):
        open_scan(path, inbox).__enter__()


def test_an_inbox_may_be_a_link_and_a_person_may_name_one(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.tif").write_bytes(b"scan")
    (tmp_path / "inbox").symlink_to(tmp_path / "real")
    (tmp_path / "b.tif").symlink_to(tmp_path / "real" / "a.tif")
    inbox = tmp_path / "inbox"
    with open_scan(inbox / "a.tif", inbox) as one, open_scan(tmp_path / "b.tif") as other:
        assert one.state == other.state


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_one_sentence_and_no_wait(tmp_path, make):
    make(tmp_path / "a.tif")
    with pytest.raises(SlideError, match=r"^a\.tif is not a regular file$"):
        open_scan(tmp_path / "a.tif", tmp_path).__enter__()
