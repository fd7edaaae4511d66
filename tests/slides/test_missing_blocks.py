"""What a file does not store is bare glass; what a level lacks is made from the finer one."""

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile
from incomplete_files import BYTE_COUNT, OFFSET, leave_out, overwrite_blocks
from numpy.typing import NDArray

from her2d.slides import fallback
from her2d.slides.errors import SlideError
from her2d.slides.grid import Tile, UnreadableTile
from her2d.slides.integrity import Completeness, Missing, check_integrity
from her2d.slides.levels import open_levels
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
TilesOf = Callable[..., tuple[list[Tile], list[UnreadableTile]]]

LAYOUTS: dict[str, dict[str, Any]] = {
    "JPEG tiles": {"tile": (256, 256), "compression": "jpeg"},
    "uncompressed tiles": {"tile": (256, 256)},
    "BigTIFF": {"tile": (256, 256), "compression": "zlib", "bigtiff": True},
    "big-endian": {"tile": (256, 256), "compression": "zlib", "byteorder": ">"},
    "strips": {"rowsperstrip": 64, "compression": "lzw"},
    "planes": {"tile": (256, 256), "compression": "zlib", "planarconfig": "separate"},
}


def write_pyramid(
    path: Path,
    image: Picture,
    *,
    steps: tuple[int, ...] = (1, 2, 4),
    description: str = "AppMag = 8",
    **options: Any,
) -> Path:
    """Write a scan at 8x whose levels are means of level 0's pixels; 4x is the second."""
    options = {"tile": (256, 256), "compression": "zlib"} | options
    with tifffile.TiffWriter(path) as tiff:
        for step in steps:
            height, width = (side // step * step for side in image.shape[:2])
            cut = image[:height, :width].reshape(height // step, step, width // step, step, 3)
            level = (cut.mean((1, 3)) + 0.5).astype(np.uint8)
            about = {"description": description} if step == 1 else {"subfiletype": 1}
            tiff.write(level, photometric="rgb", metadata=None, **about, **options)
    return path


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("zero", [(OFFSET,), (BYTE_COUNT,), (OFFSET, BYTE_COUNT)], ids=str)
@pytest.mark.parametrize("at_the_end", [False, True], ids=["inside", "last"])
def test_a_block_that_is_not_stored_is_glass_and_its_file_is_complete(
    options: dict[str, Any],
    zero: tuple[str, ...],
    at_the_end: bool,
    write: Callable[..., Path],
    picture: Callable[..., Picture],
    read: Callable[..., Picture],
) -> None:
    image = picture(600, 700)
    planar = options.get("planarconfig") == "separate"
    path = write(np.moveaxis(image, -1, 0) if planar else image, **options)
    expected = image if options.get("compression") != "jpeg" else read(path)
    with tifffile.TiffFile(path) as tiff:
        stored = len(tiff.pages[0].dataoffsets)
    each_plane = stored // 3 if planar else stored
    index = each_plane - 1 if at_the_end else 1
    leave_out(path, range(index, stored, each_plane), zero=zero)
    glass = expected.copy()
    if "rowsperstrip" in options:
        glass[64 * index : 64 * (index + 1)] = 255
    else:
        row, column = divmod(index, 3)
        glass[256 * row : 256 * (row + 1), 256 * column : 256 * (column + 1)] = 255
    assert check_integrity(path).completeness is Completeness.COMPLETE
    np.testing.assert_array_equal(read(path), glass)


def test_a_file_with_unstored_blocks_reads_as_in_openslide(
    write: Callable[..., Path], picture: Callable[..., Picture]
) -> None:
    path = write(picture(1024, 1024), tile=(256, 256), compression="zlib")
    leave_out(path, [0, 3, 15])
    with openslide.OpenSlide(path) as peer, open_slide(path) as slide:
        theirs = np.asarray(peer.read_region((0, 0), 0, slide.dimensions))
        over_white = np.where(theirs[..., 3:] == 0, 255, theirs[..., :3])
        ours = slide.read_region((0, 0), 0, slide.dimensions)
    np.testing.assert_array_equal(ours, over_white)


@pytest.mark.parametrize(
    ("description", "nodata", "color"),
    [
        ("|BackgroundColor = 16514557", None, (0xFB, 0xFD, 0xFD)),
        ("|BackgroundColor = 0", None, (255, 255, 255)),
        ("|BackgroundColor = white", None, (255, 255, 255)),
        ("", "240", (240, 240, 240)),
        ("", "0", (255, 255, 255)),
        ("", "nan", (255, 255, 255)),
        ("", None, (255, 255, 255)),
    ],
)
def test_glass_has_the_colour_that_the_file_states(
    description: str,
    nodata: str | None,
    color: tuple[int, int, int],
    write: Callable[..., Path],
    picture: Callable[..., Picture],
    read: Callable[..., Picture],
) -> None:
    path = write(
        picture(512, 512),
        tile=(256, 256),
        compression="zlib",
        description=f"Motic V1.0.0\n512x512|AppMag = 4|MPP = 2.5{description}",
        extratags=[(42113, 2, 0, nodata, False)] if nodata else [],
    )
    leave_out(path, [3])
    assert (read(path)[256:, 256:] == color).all()
    assert (open_levels(path).region(0, 256, 256, 9, 9) == color).all()


def test_a_scan_of_which_no_block_is_stored_is_refused(
    write: Callable[..., Path], picture: Callable[..., Picture]
) -> None:
    path = write(picture(512, 512), tile=(256, 256), compression="zlib")
    leave_out(path, range(4))
    found = check_integrity(path)
    assert (found.completeness, found.missing) == (Completeness.INCOMPLETE, Missing.BLOCKS)
    with pytest.raises(SlideError, match="not one block of its scan is stored"):
        open_slide(path)


def test_a_strip_that_is_stored_and_too_short_is_not_glass(
    write: Callable[..., Path], picture: Callable[..., Picture], tiles_of: TilesOf
) -> None:
    path = write(picture(1024, 512), rowsperstrip=1024)
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].tags[279].valueoffset
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<I", 512 * 512 * 3))
    readable, unreadable = tiles_of(path)
    assert [(tile.row, len(unreadable)) for tile in readable] == [(0, 1)]


Harm = Callable[[Path], None]
HARMS: dict[str, Harm] = {
    "one hole": lambda path: leave_out(path, [1], page=1),
    "a hole at the end": lambda path: leave_out(path, [3], page=1, zero=[OFFSET]),
    "no block at all": lambda path: leave_out(path, range(4), page=1),
    "a damaged block": lambda path: overwrite_blocks(path, [2], page=1),
    "only damaged blocks": lambda path: overwrite_blocks(path, range(4), page=1),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
@pytest.mark.parametrize(
    "options", [{"tile": (256, 256)}, {"tile": (240, 224)}, {"rowsperstrip": 90, "tile": None}]
)
def test_what_a_lower_level_lacks_is_made_from_the_finer_one(
    harm: Harm,
    options: dict[str, Any],
    tmp_path: Path,
    picture: Callable[..., Picture],
    read: Callable[..., Picture],
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1000, 1022), **options)
    whole = read(path)
    harm(path)
    assert np.abs(read(path).astype(int) - whole).max() <= 1
    viewed = open_levels(path).region(1, 0, 0, 511, 500)
    np.testing.assert_array_equal(viewed, read(path))


def test_large_blocks_are_made_in_bands(
    tmp_path: Path,
    picture: Callable[..., Picture],
    read: Callable[..., Picture],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1000, 1022), tile=(224, 512))
    leave_out(path, range(6), page=1)
    whole = read(path)
    monkeypatch.setattr(fallback, "_BAND_BYTES", 37 * 511 * 12)
    np.testing.assert_array_equal(read(path), whole)


@pytest.mark.parametrize(
    "downsamples",
    [[1.0], [1.0, 2.0, 4.0, 16.0], [1.0, 1.2], [1.0 + n / 8 for n in range(1000)]],
    ids=["one level", "pyramid", "two of one size", "a thousand levels"],
)
def test_few_levels_stand_behind_a_level_and_the_last_is_level_0(downsamples: list[float]) -> None:
    number: int | None = len(downsamples) - 1
    behind = []
    while number is not None:
        behind.append(number)
        number = fallback.finer_level(downsamples, number)
    assert behind[-1] == 0
    assert len(behind) <= min(len(downsamples), 14)


def test_a_file_cut_off_inside_its_lower_levels_is_read_from_level_0(
    tmp_path: Path, picture: Callable[..., Picture], read: Callable[..., Picture]
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1024, 1024))
    whole = read(path)
    with tifffile.TiffFile(path) as tiff:
        second = tiff.pages[1].dataoffsets[1]
        data = bytearray(path.read_bytes())
        # The directory of the third level, as in a file whose directories come first.
        at = tiff.pages[1].offset
        entries = struct.unpack_from("<H", data, at)[0]
        struct.pack_into("<I", data, at + 2 + 12 * entries, 0)
    path.write_bytes(data[:second])
    assert check_integrity(path).missing is Missing.BLOCKS
    assert np.abs(read(path).astype(int) - whole).max() <= 1


def test_a_level_is_followed_down_to_the_one_that_has_the_pixels(
    tmp_path: Path, picture: Callable[..., Picture], read: Callable[..., Picture]
) -> None:
    image = picture(2048, 2048)
    path = write_pyramid(tmp_path / "a.tif", image, description="AppMag = 16")
    whole = read(path)
    leave_out(path, [0], page=2)
    overwrite_blocks(path, [0, 1], page=1)
    assert np.abs(read(path).astype(int) - whole).max() <= 1


def test_a_hole_in_every_level_is_glass(
    tmp_path: Path, picture: Callable[..., Picture], read: Callable[..., Picture]
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1024, 1024))
    leave_out(path, [0, 1, 4, 5])
    leave_out(path, [0], page=1)
    assert (read(path)[:256, :256] == 255).all()
    assert (read(path)[256:, 256:] != 255).any()


def test_a_damaged_block_of_a_lower_level_is_not_glass_because_level_0_stores_nothing_there(
    tmp_path: Path, picture: Callable[..., Picture], tiles_of: TilesOf
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1024, 1024))
    leave_out(path, [0, 1, 4, 5])
    overwrite_blocks(path, [0], page=1)
    assert len(tiles_of(path)[1]) == 1


def test_a_hole_over_a_damaged_block_of_level_0_is_unreadable(
    tmp_path: Path, picture: Callable[..., Picture], tiles_of: TilesOf
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1024, 1024))
    leave_out(path, [0], page=1)
    overwrite_blocks(path, [5])
    (tile,) = tiles_of(path)[1]
    assert tile.reason.startswith("block 0,0 is not stored, and the finer level cannot replace it")


@pytest.mark.parametrize("lacks", ["a hole", "damage"])
def test_an_io_error_of_the_finer_level_is_told_as_one_since_it_may_be_read_later(
    lacks: str, tmp_path: Path, picture: Callable[..., Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1024, 1024))
    (leave_out if lacks == "a hole" else overwrite_blocks)(path, [0], page=1)
    with tifffile.TiffFile(path) as tiff:
        bad = tiff.pages[0].dataoffsets[5]
    pread = os.pread

    def on_a_bad_disk(fd: int, size: int, offset: int) -> bytes:
        if offset <= bad < offset + size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(fd, size, offset)

    with open_slide(path) as slide:
        monkeypatch.setattr(os, "pread", on_a_bad_disk)
        tiles = list(slide.tiles())
    (tile,) = [tile for tile in tiles if isinstance(tile, UnreadableTile)]
    assert tile.is_io_error
    assert tile.reason == "block 0,0 cannot be read: I/O error"


def test_level_0_with_a_hole_is_not_needed_where_the_level_that_is_read_is_whole(
    tmp_path: Path, picture: Callable[..., Picture], read: Callable[..., Picture]
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1024, 1024))
    whole = read(path)
    leave_out(path, [15])
    overwrite_blocks(path, [0])
    np.testing.assert_array_equal(read(path), whole)


def test_a_lower_level_in_a_format_that_is_not_supported_is_read_from_the_finer_one(
    tmp_path: Path, picture: Callable[..., Picture], read: Callable[..., Picture]
) -> None:
    path = write_pyramid(tmp_path / "a.tif", picture(1024, 1024))
    whole = read(path)
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[1].tags[259].valueoffset
    with path.open("r+b") as file:
        file.seek(at)
        file.write(struct.pack("<H", 9999))
    assert np.abs(read(path).astype(int) - whole).max() <= 1
