"""Small files that state a huge size are refused before memory is allocated for them."""

import resource
import struct
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from her2d.slides.errors import SlideError
from her2d.slides.integrity import Completeness, check_integrity
from her2d.slides.reader import open_slide

SHORT, LONG, ASCII, RATIONAL = 3, 4, 2, 5
MOST_MIB = 100


def write_tiff(
    path: Path, tags: list[tuple[int, int, int, int]], *, size: int = 0, block: bytes = b""
) -> Path:
    """Write a little-endian TIFF: header, one directory, `block`, and a hole up to `size` bytes."""
    directory = struct.pack("<H", len(tags))
    for tag in sorted(tags):
        directory += struct.pack("<HHII", *tag)
    data = b"II*\0" + struct.pack("<I", 8) + directory + bytes(4) + block
    with path.open("wb") as file:
        file.write(data)
        file.truncate(max(size, len(data)))
    return path


def image(width: int, height: int, *more: tuple[int, int, int, int]) -> list[tuple[int, ...]]:
    """Return the tags of an image of 512 x 512 tiles, without the places of the tiles."""
    return [
        (256, LONG, 1, width),
        (257, LONG, 1, height),
        (258, SHORT, 1, 8),
        (259, SHORT, 1, 8),
        (262, SHORT, 1, 1),
        (277, SHORT, 1, 1),
        (322, LONG, 1, 512),
        (323, LONG, 1, 512),
        *more,
    ]


@pytest.fixture
def refused():
    """Return the reason why a file is refused, and check that this took little time and memory."""

    def reason(path: Path) -> str:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        assert check_integrity(path).completeness is not Completeness.COMPLETE
        with pytest.raises(SlideError) as caught:
            open_slide(path)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MIB * 1024
        assert time.process_time() - started < 5
        return caught.value.reason

    return reason


def test_a_million_sub_directories_are_refused(tmp_path, refused):
    tags = image(512, 512, (324, LONG, 1, 8), (325, LONG, 1, 8), (330, LONG, 10**6, 1000))
    path = write_tiff(tmp_path / "a.tif", tags, size=5 * 10**6)
    assert refused(path) == "has more than 1024 image directories"


def test_an_image_larger_than_any_slide_is_refused(tmp_path, refused):
    tags = image(2**19, 2**19, (324, LONG, 1, 8), (325, LONG, 1, 8))
    assert "no slide is that large" in refused(write_tiff(tmp_path / "a.tif", tags))


def test_more_blocks_than_any_slide_has_are_refused(tmp_path, refused):
    tags = [tag for tag in image(2**18, 2**18) if tag[0] not in (322, 323)]
    tags += [(322, LONG, 1, 16), (323, LONG, 1, 16), (324, LONG, 1, 8), (325, LONG, 1, 8)]
    assert "no slide has so many" in refused(write_tiff(tmp_path / "a.tif", tags))


@pytest.mark.parametrize("kind", [ASCII, RATIONAL])
def test_tags_of_many_megabytes_are_refused(tmp_path, refused, kind):
    count = 40 * 2**20 // (1 if kind == ASCII else 8)
    tags = image(512, 512, (324, LONG, 1, 8), (325, LONG, 1, 8), (282, kind, count, 1000))
    path = write_tiff(tmp_path / "a.tif", tags, size=41 * 2**20)
    assert refused(path) == f"has more than {32 * 2**20} bytes of tags"


def test_a_slide_that_lists_one_block_a_million_times_is_refused(tmp_path):
    # Each block decodes from 1 KB to 256 KB, and the file to 60 GB of pixels.
    block = imagecodecs.zlib_encode(np.full((512, 512), 200, np.uint8))
    columns = rows = 480
    tags = image(
        columns * 512,
        rows * 512,
        (270, ASCII, 11, 0),
        (324, LONG, columns * rows, 0),
        (325, LONG, columns * rows, 0),
    )
    start = 8 + 2 + 12 * len(tags) + 4
    text, offsets = start + len(block), start + len(block) + 12
    sizes = offsets + 4 * columns * rows
    places = {270: text, 324: offsets, 325: sizes}
    tags = [(*tag[:3], places.get(tag[0], tag[3])) for tag in tags]
    tables = np.full(columns * rows, start, "<u4").tobytes()
    tables += np.full(columns * rows, len(block), "<u4").tobytes()
    path = write_tiff(tmp_path / "a.tif", tags, block=block + b"AppMag = 4\0\0" + tables)
    assert check_integrity(path).completeness is Completeness.COMPLETE
    with pytest.raises(SlideError, match=r"pixels at 4x; no slide is that large"):
        open_slide(path)
