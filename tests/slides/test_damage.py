"""A damaged block makes its tiles unreadable, not the slide; no damage ends the process."""

import contextlib
import errno
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.block_format import BlockFormat, BlockSize
from her2d.slides.errors import RefusedError, SlideError, SlideUnavailableError
from her2d.slides.grid import Tile, UnreadableTile
from her2d.slides.jpeg import JpegDecoder
from her2d.slides.lzw import decode_lzw
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
TilesOf = Callable[..., tuple[list[Tile], list[UnreadableTile]]]

JPEG = {"tile": (512, 512), "compression": "jpeg"}
JPEG_2000 = {"tile": (512, 512), "compression": 34712}
ALL = {
    "JPEG": JPEG,
    "JPEG 2000": JPEG_2000,
    "LZW": {"tile": (512, 512), "compression": "lzw"},
    "deflate": {"tile": (512, 512), "compression": "zlib", "predictor": True},
    "PackBits": {"rowsperstrip": 512, "compression": "packbits"},
}


@pytest.fixture
def scan(write: Callable[..., Path], picture: Callable[..., Picture]) -> Callable[..., Path]:
    """Write a scan of 3 x 2 tiles with the options given."""

    def make(**options: Any) -> Path:
        return write(picture(1024, 1536), **options)

    return make


def block(path: Path, index: int) -> tuple[int, int]:
    """Return offset and size of one block of the first image."""
    with tifffile.TiffFile(path) as opened:
        page = opened.pages[0]
        return page.dataoffsets[index], page.databytecounts[index]


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def positions(tiles: list[Any]) -> list[tuple[int, int]]:
    return [(tile.column, tile.row) for tile in tiles]


@pytest.mark.parametrize("options", [JPEG, JPEG_2000, ALL["LZW"], ALL["deflate"]])
def test_a_block_of_random_bytes_makes_only_its_tile_unreadable(
    options: dict[str, Any], scan: Callable[..., Path], tiles_of: TilesOf
) -> None:
    path = scan(**options)
    offset, size = block(path, 4)
    overwrite(path, offset, random.Random(1).randbytes(size))
    readable, unreadable = tiles_of(path)
    assert positions(unreadable) == [(1, 1)]
    assert unreadable[0].reason.startswith("block 1,1 ")
    assert len(readable) == 5


@pytest.mark.parametrize("codec", ["JPEG", "JPEG 2000", "LZW", "deflate"])
def test_a_block_cut_short_by_zeros_is_unreadable(
    codec: str, scan: Callable[..., Path], tiles_of: TilesOf
) -> None:
    path = scan(**ALL[codec])
    offset, size = block(path, 0)
    overwrite(path, offset + size // 2, bytes(size - size // 2))
    _, unreadable = tiles_of(path)
    assert positions(unreadable) == [(0, 0)]


def test_a_damaged_strip_makes_only_the_tiles_it_touches_unreadable(
    scan: Callable[..., Path], tiles_of: TilesOf
) -> None:
    path = scan(rowsperstrip=64, compression="zlib")
    offset, size = block(path, 9)  # rows 576 to 639
    overwrite(path, offset, bytes(size))
    readable, unreadable = tiles_of(path)
    assert positions(readable) == [(0, 0), (1, 0), (2, 0)]
    assert positions(unreadable) == [(0, 1), (1, 1), (2, 1)]


def test_a_damaged_block_that_straddles_four_tiles_makes_four_unreadable(
    scan: Callable[..., Path], tiles_of: TilesOf
) -> None:
    path = scan(tile=(240, 240), compression="jpeg")
    offset, size = block(path, 2 * 7 + 2)  # pixels 480 to 719 both ways; 7 blocks a row
    overwrite(path, offset, bytes(size))
    _, unreadable = tiles_of(path)
    assert positions(unreadable) == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_an_uncompressed_strip_that_ends_early_lacks_only_its_last_rows(
    scan: Callable[..., Path], tiles_of: TilesOf
) -> None:
    path = scan(rowsperstrip=1024)
    with tifffile.TiffFile(path) as opened:
        at = opened.pages[0].tags[279].valueoffset
    overwrite(path, at, (700 * 1536 * 3).to_bytes(4, "little"))
    readable, unreadable = tiles_of(path)
    assert positions(readable) == [(0, 0), (1, 0), (2, 0)]
    assert len(unreadable) == 3


@pytest.mark.parametrize("options", [JPEG, JPEG_2000], ids=["JPEG", "JPEG 2000"])
def test_a_block_whose_header_states_a_huge_size_is_not_decoded(
    options: dict[str, Any], scan: Callable[..., Path], tiles_of: TilesOf
) -> None:
    path = scan(**options)
    offset, size = block(path, 0)
    data = path.read_bytes()[offset : offset + size]
    if options is JPEG:
        at = data.index(b"\xff\xc0") + 5
        overwrite(path, offset + at, b"\xff\xdc\xff\xdc")  # 65,500 x 65,500: 12 GB
    else:
        at = data.index(b"\xff\x4f\xff\x51") + 8
        overwrite(path, offset + at, b"\x00\x01\x00\x00\x00\x01\x00\x00")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, unreadable = tiles_of(path)
    assert positions(unreadable) == [(0, 0)]
    assert "pixels instead of 512 x 512" in unreadable[0].reason
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_jpeg_of_hundreds_of_scans_is_refused(tmp_path: Path, tiles_of: TilesOf) -> None:
    jpeg = imagecodecs.jpeg8_encode(np.zeros((512, 512, 3), np.uint8), level=90)
    scan = jpeg.index(b"\xff\xda")
    bomb = jpeg[:scan] + jpeg[scan:-2] * 400 + jpeg[-2:]
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path,
        iter([bomb]),
        shape=(512, 512, 3),
        dtype=np.uint8,
        tile=(512, 512),
        photometric="ycbcr",
        compression="jpeg",
        metadata=None,
        description="AppMag = 4",
    )
    _, unreadable = tiles_of(path)
    assert "scans" in unreadable[0].reason


def test_a_deflate_bomb_is_not_inflated(tmp_path: Path, tiles_of: TilesOf) -> None:
    bomb = imagecodecs.zlib_encode(bytes(512 * 512 * 3 * 200))
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(
        path,
        iter([bomb]),
        shape=(512, 512, 3),
        dtype=np.uint8,
        tile=(512, 512),
        photometric="rgb",
        compression="zlib",
        metadata=None,
        description="AppMag = 4",
    )
    _, unreadable = tiles_of(path)
    assert len(unreadable) == 1


def test_blocks_over_the_limit_are_refused(write: Callable[..., Path]) -> None:
    path = write(np.zeros((16, 16, 3), np.uint8), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as opened:
        tags = opened.pages[0].tags
        places = [(tags[322].valueoffset, tags[322].dtype), (tags[323].valueoffset, 4)]
    for at, _ in places:
        overwrite(path, at, (65_520).to_bytes(2, "little"))
    with pytest.raises(SlideError, match="over the limit of 256 MiB"):
        open_slide(path)


def test_a_file_that_shrinks_while_it_is_read_loses_its_last_tiles(
    scan: Callable[..., Path],
) -> None:
    path = scan(tile=(256, 256))
    with open_slide(path) as slide:
        os.truncate(path, path.stat().st_size // 2)
        tiles = list(slide.tiles())
    assert isinstance(tiles[0], Tile)
    assert isinstance(tiles[-1], UnreadableTile)
    assert "the file ends inside it" in tiles[-1].reason


def test_a_bad_sector_concerns_a_block_and_a_lost_share_the_slide(
    scan: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(code: int) -> Callable[[int, int, int], bytes]:
        def pread(fd: int, size: int, offset: int) -> bytes:
            raise OSError(code, os.strerror(code))

        return pread

    with open_slide(scan(**JPEG)) as slide:
        monkeypatch.setattr(os, "pread", failing(errno.EIO))
        assert all(isinstance(tile, UnreadableTile) and tile.is_io_error for tile in slide.tiles())
        monkeypatch.setattr(os, "pread", failing(errno.ESTALE))
        with pytest.raises(SlideUnavailableError, match="Stale file handle"):
            list(slide.tiles())


def test_corrupt_lzw_never_crashes_the_process() -> None:
    # The decoder of imagecodecs did, once in a few thousand of these, so it is not used.
    stream = imagecodecs.lzw_encode(np.arange(64 * 700 * 3, dtype=np.uint8).tobytes())
    rng = random.Random(0)
    decoded = 0
    for _ in range(1500):
        damaged = bytearray(stream)
        for _ in range(rng.randint(1, 100)):
            damaged[rng.randrange(1, len(damaged))] = rng.randrange(256)
        with contextlib.suppress(imagecodecs.TiffError):
            pixels = decode_lzw(
                bytes(damaged), shape=(64, 700, 3), bits=8, predictor=1, byteorder="<"
            )
            decoded += pixels.shape == (64, 700, 3)
    assert decoded < 1500


def outcome(path: Path) -> str:
    """Return how reading ends: in all tiles, or in a reason of one line; '' for anything else."""
    try:
        with open_slide(path) as slide:
            tiles = list(slide.tiles())
    except SlideError as error:
        return "" if "\n" in str(error) else error.reason
    return "tiles" if len(tiles) == slide.grid.columns * slide.grid.rows else ""


@pytest.mark.parametrize("options", ALL.values(), ids=ALL)
@pytest.mark.parametrize("where", ["anywhere", "structure"])
def test_any_100_flipped_bytes_end_in_tiles_or_a_reason(
    options: dict[str, Any], where: str, scan: Callable[..., Path], tmp_path: Path
) -> None:
    data = scan(**options).read_bytes()
    reach = len(data) if where == "anywhere" else 600  # tifffile writes the directory first
    for seed in range(12):
        rng = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(100 if where == "anywhere" else rng.randint(1, 8)):
            damaged[rng.randrange(reach)] = rng.randrange(256)
        path = tmp_path / "flipped.tif"
        path.write_bytes(damaged)
        assert outcome(path)


def jpeg_decoder() -> JpegDecoder:
    stored = BlockFormat(
        compression=7,
        photometric=6,
        bits=8,
        significant_bits=8,
        samples=3,
        planes=1,
        predictor=1,
        byteorder="<",
        bits_reversed=False,
        subsampling=(2, 2),
    )
    return JpegDecoder(stored)


def test_a_jpeg_that_begins_like_the_one_before_is_checked_to_its_end(
    picture: Callable[..., Picture],
) -> None:
    decode, size = jpeg_decoder(), BlockSize(64, 64, 64, 64)
    pictures = (picture(64, 64), picture(64, 64)[::-1])
    first, other = (bytes(imagecodecs.jpeg8_encode(each, 75)) for each in pictures)
    pixels = decode(first, size)
    assert not np.array_equal(decode(other, size), pixels)
    np.testing.assert_array_equal(decode(first, size), pixels)

    frame = first[first.index(b"\xff\xc0") : first.index(b"\xff\xda")]
    for damaged, reason in (
        (other[:-2] + frame + other[-2:], "2 frames"),
        (other[: len(other) // 2], "cut short"),
        (other[:-2] + b"\xff\xe7\x00", "cut short"),
    ):
        with pytest.raises(RefusedError, match=reason):
            decode(damaged, size)


def test_a_jpeg_that_begins_like_the_one_before_must_fit_its_own_block(
    picture: Callable[..., Picture],
) -> None:
    decode = jpeg_decoder()
    jpeg = bytes(imagecodecs.jpeg8_encode(picture(64, 64), 75))
    decode(jpeg, BlockSize(64, 64, 64, 64))
    with pytest.raises(RefusedError, match="64 x 64 pixels instead of 32 x 64"):
        decode(jpeg, BlockSize(32, 64, 32, 64))
