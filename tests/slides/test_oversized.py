"""A file that is almost all hole is refused at once: hashing and copying it would take hours."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from her2d.processing.identity import open_scan
from her2d.slides.errors import SlideError
from her2d.slides.integrity import Completeness, check_integrity
from her2d.slides.reader import open_slide
from her2d.slides.structure import MAX_UNUSED_BYTES

EIGHT_TB = 8 * 10**12
PICTURE = np.random.default_rng(1).integers(0, 255, (512, 512, 3)).astype(np.uint8)


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        tiff.write(PICTURE, tile=(256, 256), description="AppMag = 4", metadata=None)
    return path


def with_tail(path: Path) -> None:
    os.truncate(path, EIGHT_TB)


def with_a_hole_before_the_last_tile(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        offsets, count = page.tags["TileOffsets"], page.dataoffsets
    data = path.read_bytes()[count[-1] :]
    with path.open("r+b") as file:
        file.seek(offsets.valueoffset + 8 * (len(count) - 1))
        file.write(struct.pack("<Q", EIGHT_TB))
        file.seek(EIGHT_TB)
        file.write(data)


@pytest.mark.parametrize("enlarge", [with_tail, with_a_hole_before_the_last_tile])
def test_a_slide_of_eight_terabytes_of_nothing_is_refused_at_once(
    enlarge: Callable[[Path], None], slide: Path
) -> None:
    enlarge(slide)
    checked = check_integrity(slide)
    assert checked.completeness is Completeness.BROKEN
    assert checked.reason is not None
    assert checked.reason.startswith("is 8000 GB large, of which its images take 0.0; the rest")
    with pytest.raises(SlideError, match=r"a\.tif is 8000 GB large"):
        open_slide(slide)
    with open_scan(slide) as scan, pytest.raises(SlideError, match=r"a\.tif is 8000 GB large"):
        scan.content_hash()


def test_a_tail_that_is_read_in_a_minute_is_allowed(slide: Path) -> None:
    os.truncate(slide, MAX_UNUSED_BYTES)
    assert check_integrity(slide).completeness is Completeness.COMPLETE
    with open_slide(slide) as opened:
        assert opened.dimensions == (512, 512)


def test_blocks_that_are_listed_twice_count_once(slide: Path) -> None:
    with tifffile.TiffWriter(slide, bigtiff=True) as tiff:
        for _ in range(3):
            tiff.write(PICTURE, tile=(256, 256), description="AppMag = 4", metadata=None)
    with tifffile.TiffFile(slide) as tiff:
        tags = [page.tags["TileByteCounts"] for page in tiff.pages]
    with slide.open("r+b") as file:
        for tag in tags:  # every tile states more bytes than it has
            file.seek(tag.valueoffset)
            file.write(struct.pack("<4" + {3: "H", 4: "I", 16: "Q"}[tag.dtype], *[2**16 - 1] * 4))
    with_tail(slide)
    with pytest.raises(SlideError, match=r"of which its images take 0\.0"):
        open_slide(slide)
