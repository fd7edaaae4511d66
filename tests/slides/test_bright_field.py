"""Only scans that can show stained tissue in bright field are opened."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.grid import UnreadableTile
from her2d.slides.levels import open_levels
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
Write = Callable[..., Path]


@pytest.fixture
def tissue(picture: Callable[..., Picture]) -> Picture:
    """A picture of many blocks with a light, coloured part in one corner and glass elsewhere."""
    image = np.full((1600, 1600, 3), 238, np.uint8)
    image[1000:, 1000:] = picture(600, 600)
    return image


def refusal(path: Path) -> str:
    with pytest.raises(SlideError) as caught, open_slide(path) as slide:
        list(slide.tiles())
    assert "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_one_grey_channel_is_no_bright_field_scan(
    photometric: str, dtype: type, tissue: Picture, write: Write
) -> None:
    path = write(tissue[..., 0].astype(dtype), tile=(256, 256), photometric=photometric)
    assert refusal(path).startswith("has no bright-field colour: its pixels are of one grey")


@pytest.mark.parametrize("options", [{}, {"compression": "jpeg"}], ids=["raw", "jpeg"])
def test_grey_in_three_channels_is_no_bright_field_scan(
    options: dict[str, str], tissue: Picture, write: Write
) -> None:
    grey = np.repeat(tissue[..., :1], 3, axis=-1)
    path = write(grey, tile=(256, 256), **options)
    assert refusal(path) == "has no bright-field colour: all of its pixels are grey"


def test_a_palette_of_greys_is_no_bright_field_scan(tissue: Picture, write: Write) -> None:
    table = np.repeat(np.arange(256, dtype=np.uint16)[np.newaxis] * 257, 3, axis=0)
    path = write(tissue[..., 0], tile=(256, 256), photometric="palette", colormap=table)
    assert refusal(path) == "has no bright-field colour: all of its pixels are grey"


def test_colours_on_black_are_no_bright_field_scan(write: Write) -> None:
    y, x = np.mgrid[:1600, :1600]
    nuclei = (np.hypot(x % 50 - 25, y % 50 - 25) < 9) * 200
    picture = np.stack([nuclei // 8, nuclei // 4, nuclei], axis=-1).astype(np.uint8)
    assert "dark throughout" in refusal(write(picture, tile=(256, 256)))


def test_12_bits_in_16_without_a_statement_are_not_taken_for_black(
    tissue: Picture, write: Write
) -> None:
    path = write(tissue.astype(np.uint16) << 4, tile=(256, 256), compression="zlib")
    assert "no MaxSampleValue" in refusal(path)


@pytest.mark.parametrize("most", [1023, 4000, 4095, 16383, 60_000, 65_535])
def test_max_sample_value_says_how_many_bits_are_in_use(
    most: int, tissue: Picture, write: Write, read: Callable[..., Picture]
) -> None:
    bits = next(bits for bits in (10, 12, 14, 16) if most < 2**bits)
    path = write(
        tissue.astype(np.uint16) << (bits - 8),
        tile=(256, 256),
        extratags=[(281, 3, 3, (most,) * 3, True)],
    )
    np.testing.assert_array_equal(read(path), tissue)


def test_a_value_beyond_max_sample_value_makes_its_block_unreadable(
    tissue: Picture, write: Write
) -> None:
    deep = tissue.astype(np.uint16) << 4
    deep[700, 700] = 4096
    path = write(deep, tile=(256, 256), extratags=[(281, 3, 3, (4095,) * 3, True)])
    with open_slide(path) as slide, pytest.raises(SlideError, match="beyond the 12 bits"):
        slide.read_region((600, 600), 0, (200, 200))


def test_the_statistics_of_an_8_bit_scan_change_nothing(
    tissue: Picture, write: Write, read: Callable[..., Picture]
) -> None:
    path = write(tissue, tile=(256, 256), extratags=[(281, 3, 3, (100, 100, 100), True)])
    np.testing.assert_array_equal(read(path), tissue)


def test_empty_glass_and_black_around_the_scan_are_no_reason(tissue: Picture, write: Write) -> None:
    around = np.zeros((3200, 3200, 3), np.uint8)
    around[1600:, :1600] = tissue
    for picture in (np.full((1600, 1600, 3), 255, np.uint8), around):
        with open_slide(write(picture, tile=(256, 256))) as slide:
            list(slide.tiles())


def test_a_viewer_shows_what_is_not_scored(tissue: Picture, write: Write) -> None:
    path = write(tissue[..., 0], tile=(256, 256))
    shown = open_levels(path).region(0, 1000, 1000, 300, 300)
    np.testing.assert_array_equal(shown[..., 0], tissue[1000:1300, 1000:1300, 0])


def test_a_scan_is_judged_by_its_own_pixels_and_not_by_the_white_around_them(write: Write) -> None:
    dark = np.zeros((300, 300, 3), np.uint8)
    dark[:150, :150] = (0, 30, 60)
    assert "dark throughout" in refusal(write(dark, tile=(256, 256)))


def test_who_stops_early_is_not_told(tissue: Picture, write: Write) -> None:
    path = write(np.repeat(tissue[..., :1], 3, axis=-1), tile=(256, 256))
    with open_slide(path) as slide:
        tiles = slide.tiles()
        next(tiles)
        tiles.close()


def test_blocks_that_cannot_be_read_show_nothing(tissue: Picture, write: Write) -> None:
    path = write(tissue, tile=(256, 256), compression="jpeg")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"))
    with open_slide(path) as slide:
        assert all(isinstance(tile, UnreadableTile) for tile in slide.tiles())
