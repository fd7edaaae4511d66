"""What the viewer shows if another file lies where a slide's original was."""

import os
import shutil
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from her2d.browse.originals import (
    Originals,
    RecordedOriginal,
    ScanMissing,
    ScanReplaced,
    ScanUnverified,
    scan_hash,
)
from her2d.cli.app import app
from her2d.db.connection import open_database
from her2d.processing import identity
from her2d.slides.formats.parts import scan_stamp
from her2d.system.file_identity import FileStamp

TILE = "/pictures/1/tiles/11/0_0.jpg"


def recorded(path: Path) -> RecordedOriginal:
    return RecordedOriginal(str(path), scan_hash(path), scan_stamp(path))


@pytest.fixture
def originals():
    opened = Originals()
    yield opened
    opened.close()


@pytest.fixture
def hashed(monkeypatch) -> list[Path]:
    """The files whose content is read."""
    found: list[Path] = []

    def noted(path, **options):
        found.append(path)
        return identity.content_hash(path, **options)

    monkeypatch.setattr("her2d.browse.originals.scan_hash", noted)
    return found


@pytest.fixture
def scan(tmp_path) -> Path:
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\0" + bytes(2000))
    return path


def other_bytes(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    return bytes(data)


def test_the_state_of_a_file_is_recorded_with_its_hash(scanned):
    with closing(open_database(scanned / "her2d.sqlite")) as db:
        rows = list(db.query("select path, size, mtime_ns, ctime_ns from slides"))
    assert len(rows) == 3
    for row in rows:
        stamp = FileStamp(row["size"], row["mtime_ns"], row["ctime_ns"])
        assert stamp == scan_stamp(Path(row["path"]))


def test_an_untouched_original_is_shown_without_reading_its_content(originals, scan, hashed):
    original = recorded(scan)
    for _ in range(3):
        originals.verify(original)
    assert hashed == []


def test_a_file_of_another_size_is_another_scan_without_reading_it(originals, scan, hashed):
    original = recorded(scan)
    scan.write_bytes(scan.read_bytes() + b"x")
    with pytest.raises(ScanReplaced, match="is not the scan that was processed"):
        originals.verify(original)
    assert hashed == []


@pytest.mark.parametrize("how", ["in place", "by renaming", "by a link"])
@pytest.mark.parametrize("times_put_back", [True, False])
def test_another_content_of_the_same_size_is_noticed(originals, scan, how, times_put_back):
    original, before = recorded(scan), scan.stat()
    other = scan.with_name("b.tif")
    other.write_bytes(other_bytes(scan))
    if how == "in place":
        with scan.open("r+b") as file:
            file.write(other.read_bytes())
    elif how == "by renaming":
        other.replace(scan)
    else:
        scan.unlink()
        scan.symlink_to(other)
    if times_put_back:
        os.utime(scan, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ScanReplaced):
        originals.verify(original, wait_s=60)


def test_a_copied_back_original_is_compared_once_and_then_shown(originals, scan, hashed):
    original = recorded(scan)
    copy = scan.with_name("copy")
    shutil.copyfile(scan, copy)
    copy.replace(scan)
    for _ in range(5):
        originals.verify(original, wait_s=60)
    assert hashed == [scan]


def test_a_slide_without_a_recorded_stamp_is_compared(originals, scan, hashed):
    original = RecordedOriginal(str(scan), scan_hash(scan), None)
    originals.verify(original, wait_s=60)
    assert hashed == [scan]
    scan.write_bytes(other_bytes(scan))
    with pytest.raises(ScanReplaced):
        originals.verify(original, wait_s=60)


def test_a_large_file_keeps_nobody_waiting_while_it_is_compared(originals, scan, monkeypatch):
    go_on = threading.Event()
    digest = scan_hash(scan)

    def slow(path, **_):
        assert go_on.wait(600)
        return digest

    monkeypatch.setattr("her2d.browse.originals.scan_hash", slow)
    original = RecordedOriginal(str(scan), digest, FileStamp(scan.stat().st_size, 1, 1))
    for _ in range(3):
        with pytest.raises(ScanUnverified, match="is being compared"):
            originals.verify(original)
    go_on.set()
    originals.verify(original, wait_s=60)


def test_a_file_that_changes_while_it_is_compared_is_compared_again(originals, scan, monkeypatch):
    original = RecordedOriginal(str(scan), scan_hash(scan), None)

    def changing(path, **_):
        monkeypatch.undo()
        path.write_bytes(other_bytes(path))
        return original.content_hash

    monkeypatch.setattr("her2d.browse.originals.scan_hash", changing)
    with pytest.raises(ScanUnverified):
        originals.verify(original, wait_s=60)
    with pytest.raises(ScanReplaced):
        originals.verify(original, wait_s=60)


@pytest.mark.parametrize("what", ["nothing", "pipe", "folder", "loop", "long name", "NUL"])
def test_what_is_no_scan_is_a_sentence_and_never_waits(originals, tmp_path, what):
    path = tmp_path / ("n" * 300 if what == "long name" else "a.tif")
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    name = f"{path}\0" if what == "NUL" else str(path)
    original = RecordedOriginal(name, "blake2b:00", FileStamp(1, 1, 1))
    with pytest.raises(ScanMissing, match=r"^The (original scan|file at)"):
        originals.verify(original, wait_s=60)


def other_scan(path: Path) -> None:
    """Replace a slide by one of the same size, whose pixels differ, with its times put back."""
    before = path.stat()
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + count] = bytes(np.frombuffer(data, np.uint8)[offset : offset + count])
    data[-1:] = bytes([data[-1] ^ 1])
    path.write_bytes(bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("times_put_back", [True, False])
def test_no_tile_of_another_scan_is_shown_and_the_page_says_why(own_site, times_put_back):
    scan = own_site.slides / "positive.tif"
    assert own_site.get(TILE).status_code == 200
    if times_put_back:
        other_scan(scan)
    else:
        shutil.copy(own_site.slides / "negative.tif", scan)
    page = own_site.get("/slides/1").text
    assert "is not the scan that was processed" in page
    assert "The picture shown is the small one" in page
    refused = own_site.get(TILE)
    assert refused.status_code == 404
    assert "was replaced or changed" in refused.text
    assert own_site.get("/pictures/1/overview.jpg").status_code == 200
    assert own_site.get("/pictures/1/overlay.png").status_code == 200


def test_a_browser_asks_again_before_it_shows_a_tile_that_it_has(own_site):
    first = own_site.get(TILE)
    assert first.headers["cache-control"] == "private, no-cache"
    tag = first.headers["etag"]
    assert own_site.get(TILE, if_none_match=tag).status_code == 304
    (own_site.slides / "positive.tif").unlink()
    assert own_site.get(TILE, if_none_match=tag).status_code == 404


def test_the_original_comes_back(own_site):
    scan = own_site.slides / "positive.tif"
    kept = scan.with_name("kept")
    scan.rename(kept)
    assert own_site.get(TILE).status_code == 404
    kept.rename(scan)
    assert "is not the scan" not in own_site.get("/slides/1").text
    assert own_site.get(TILE).status_code == 200


def test_a_slide_whose_file_moves_is_shown_from_its_new_place(own_site):
    assert own_site.get(TILE).status_code == 200
    archived = own_site.folder / "archived.tif"
    (own_site.slides / "positive.tif").rename(archived)
    with closing(open_database(own_site.folder / "her2d.sqlite")) as db, db.atomic():
        db.execute("update slides set path = ? where id = 1", [str(archived)])
    assert "original scan cannot be found" not in own_site.get("/slides/1").text
    assert own_site.get(TILE).status_code == 200


def test_the_page_reloads_while_the_original_is_compared(own_site, monkeypatch):
    go_on = threading.Event()
    (own_site.slides / "positive.tif").touch()

    def slow(path, **_):
        assert go_on.wait(600)
        return scan_hash(path)

    monkeypatch.setattr("her2d.browse.originals.scan_hash", slow)
    page = own_site.get("/slides/1")
    assert page.headers["refresh"] == "3"
    assert "is being compared with the scan that was processed" in page.text
    assert own_site.get(TILE).status_code == 503
    go_on.set()
    deadline = time.monotonic() + 30
    while "refresh" in (page := own_site.get("/slides/1")).headers and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "is being compared" not in page.text
    assert own_site.get(TILE).status_code == 200


@pytest.mark.slow
def test_a_slide_whose_storage_hangs_is_shown_without_its_original(own_site, monkeypatch):
    go_on = threading.Event()

    def hanging(path):
        assert go_on.wait(600)
        return [path]

    monkeypatch.setattr("her2d.browse.originals.scan_files", hanging)
    page = own_site.get("/slides/1").text
    assert "does not answer" in page
    assert "The picture shown is the small one" in page
    assert own_site.get("/pictures/1/overview.jpg").status_code == 200
    go_on.set()
    assert own_site.get(TILE).status_code == 200


def test_a_restored_database_never_shows_pictures_of_the_runs_before(own_site, write_slide_into):
    before = own_site.get("/pictures/1/overview.jpg").content
    other = own_site.folder / "other"
    other.mkdir()
    slide = write_slide_into(other, ["..wS"], "other.tif")
    config = own_site.folder / "config.toml"
    (other / "config.toml").write_text(config.read_text())
    command = ["scan", str(slide), "--config", str(other / "config.toml")]
    assert CliRunner().invoke(app, command).exit_code == 0
    for end in ("", "-wal", "-shm"):
        (own_site.folder / f"her2d.sqlite{end}").unlink(missing_ok=True)
    shutil.copy(other / "her2d.sqlite", own_site.folder / "her2d.sqlite")
    assert "<h1>other.tif</h1>" in own_site.get("/slides/1").text
    assert own_site.get("/pictures/1/overview.jpg").content != before


def test_another_picture_in_a_pictures_place_is_not_drawn_on(own_site):
    heatmaps = own_site.folder / "heatmaps"
    for end in ("slide.jpg", "tumor.png"):
        (positive,) = heatmaps.glob(f"positive*.{end}")
        (negative,) = heatmaps.glob(f"negative*.{end}")
        shutil.copy(negative, positive)
    for picture in ("thumbnail.jpg", "overview.jpg", "overlay.png"):
        refused = own_site.get(f"/pictures/1/{picture}")
        assert refused.status_code == 404
        assert "is not the picture of" in refused.text
    assert own_site.get("/slides/1").status_code == 200
