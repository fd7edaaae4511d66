"""SubIFDs (tag 330) may have SubIFDs: each is found once, however they are linked."""

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.reader import open_slide
from her2d.slides.structure import Directory, read_structure
from tests.slides.tissue import reduced, section

Picture = NDArray[np.uint8]
Read = Callable[..., Picture]

MOTIC = "Motic V1.0.0\n2400x1600 [0,0 2400x1600] [512x512] JPEG/RGB|AppMag = 40"
SUB_IFDS, LONG = 330, 4
PLACEHOLDER = 331  # tifffile does not write tag 330 with offsets that are given to it
BEYOND, GARBAGE = -1, -2  # places that hold no directory
SCAN, NEIGHBOUR = section(1), section(2)
LEVELS = [SCAN, reduced(SCAN, 2), reduced(SCAN, 4), reduced(SCAN, 10)]
SMALL = [np.full((64, 64, 3), 200, np.uint8)]


def write_nested(path: Path, pictures: Sequence[Picture], links: Mapping[int, int]) -> Path:
    """Write pictures of which only the first lies on the chain of pages.

    Args:
        path: where to write.
        pictures: by number, from 0.
        links: for each picture that has a SubIFD, which picture it is, BEYOND or GARBAGE.
    """
    with tifffile.TiffWriter(path, byteorder="<") as tiff:
        for number, picture in enumerate(pictures):
            tiff.write(
                picture,
                tile=(256, 256),
                compression="jpeg",
                photometric="rgb",
                metadata=None,
                description=MOTIC if number == 0 else None,
                extratags=[(PLACEHOLDER, LONG, 1, 0, True)],
            )
    data = bytearray(path.read_bytes())
    offsets = [struct.unpack_from("<I", data, 4)[0]]
    for _ in pictures:
        (entries,) = struct.unpack_from("<H", data, offsets[-1])
        following = offsets[-1] + 2 + 12 * entries
        offsets.append(struct.unpack_from("<I", data, following)[0])
        struct.pack_into("<I", data, following, 0)
    for number, offset in enumerate(offsets[:-1]):
        (entries,) = struct.unpack_from("<H", data, offset)
        for at in range(offset + 2, offset + 2 + 12 * entries, 12):
            if struct.unpack_from("<H", data, at)[0] == PLACEHOLDER and number in links:
                target = {BEYOND: len(data) + 100, GARBAGE: 8}.get(links[number])
                target = offsets[links[number]] if target is None else target
                struct.pack_into("<HHII", data, at, SUB_IFDS, LONG, 1, target)
    path.write_bytes(data)
    return path


def structure(path: Path) -> list[Directory]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_structure(fd)
    finally:
        os.close(fd)


def test_each_level_may_be_a_subifd_of_the_finer_one(tmp_path: Path, read: Read) -> None:
    path = write_nested(tmp_path / "a.tif", LEVELS, {0: 1, 1: 2, 2: 3})
    assert [found.parent for found in structure(path)] == [None, 0, 1, 2]
    with open_slide(path) as slide:
        assert slide.level_downsamples == (1.0, 2.0, 4.0, 10.0)
        assert slide.metadata.unread_pictures is None
    assert np.abs(read(path).astype(float) - LEVELS[3]).mean() < 6  # of JPEG


def test_another_area_in_a_subifd_of_a_subifd_is_found(tmp_path: Path) -> None:
    pictures = [SCAN, LEVELS[2], np.ascontiguousarray(NEIGHBOUR[:1000, :1300])]
    path = write_nested(tmp_path / "a.tif", pictures, {0: 1, 1: 2})
    with pytest.raises(SlideError, match="holds 2 scanned areas"):
        open_slide(path)


@pytest.mark.parametrize(
    ("links", "images"),
    [
        ({0: 1, 1: 0}, 2),
        ({0: 1, 1: 1}, 2),
        ({0: 1, 1: 2, 2: 1}, 3),
        ({0: 1, 1: 2, 2: 3, 3: 0}, 4),
    ],
    ids=["to its parent", "to itself", "between two", "to the first"],
)
def test_a_loop_ends_where_it_closes(links: dict[int, int], images: int, tmp_path: Path) -> None:
    assert len(structure(write_nested(tmp_path / "a.tif", LEVELS, links))) == images


def test_what_is_not_a_directory_is_passed_over(tmp_path: Path) -> None:
    path = write_nested(tmp_path / "a.tif", LEVELS, {0: 1, 1: GARBAGE})
    with open_slide(path) as slide:
        assert slide.level_count == 2


def test_a_subifd_that_is_cut_off_leaves_the_file_unfinished(tmp_path: Path) -> None:
    path = write_nested(tmp_path / "a.tif", LEVELS, {0: 1, 1: BEYOND})
    with pytest.raises(SlideError, match="is cut short"):
        open_slide(path)


@pytest.mark.parametrize("depth", [16, 17, 200])
def test_images_within_images_are_followed_to_a_bound(depth: int, tmp_path: Path) -> None:
    links = {number: number + 1 for number in range(depth)}
    path = write_nested(tmp_path / "a.tif", SMALL * (depth + 1), links)
    if depth <= 16:
        assert len(structure(path)) == depth + 1
    else:
        with pytest.raises(SlideError, match="has images within images, more than 16 deep"):
            open_slide(path)
