"""Scans of any layout, compression and pixel format give the same picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.levels import open_levels
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
Write = Callable[..., Path]
Read = Callable[..., Picture]

LAYOUTS = {
    "aligned tiles": {"tile": (512, 512)},
    "small tiles": {"tile": (240, 240)},
    "large tiles": {"tile": (768, 768)},
    "oblong tiles": {"tile": (128, 704)},
    "strips of one row": {"rowsperstrip": 1},
    "strips of 16 rows": {"rowsperstrip": 16},
    "strips of 512 rows": {"rowsperstrip": 512},
    "one strip": {"rowsperstrip": 700},
}
LOSSLESS = {
    "uncompressed": {},
    "LZW": {"compression": "lzw"},
    "LZW with predictor": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib"},
    "deflate with predictor": {"compression": "zlib", "predictor": True},
    "old deflate": {"compression": 32946},
    "PackBits": {"compression": "packbits"},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("codec", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_pixels_are_exact(
    layout: dict[str, Any],
    codec: dict[str, Any],
    picture: Callable[..., Picture],
    write: Write,
    read: Read,
) -> None:
    image = picture()
    path = write(image, **layout, **codec)
    np.testing.assert_array_equal(read(path), image)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "strips of one row"])
@pytest.mark.parametrize(("photometric", "stored"), [(2, "rgb"), (6, "ycbcr")])
def test_jpeg_is_read_whether_rgb_or_ycbcr(
    layout: str,
    photometric: int,
    stored: str,
    picture: Callable[..., Picture],
    write: Write,
    read: Read,
) -> None:
    image = picture()
    path = write(
        image,
        **LAYOUTS[layout],
        compression="jpeg",
        compressionargs={"level": 95, "outcolorspace": stored},
    )
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].photometric == photometric
    assert np.abs(read(path).astype(int) - image).mean() < 2


@pytest.mark.parametrize("code", [33005, 34712])
@pytest.mark.parametrize("tile", [(256, 256), (512, 512)])
def test_jpeg_2000_is_read(
    code: int, tile: tuple[int, int], picture: Callable[..., Picture], write: Write, read: Read
) -> None:
    image = picture()
    path = write(
        image,
        tile=tile,
        compression=code,
        compressionargs={"level": 0, "codecformat": "j2k" if code == 33005 else "jp2"},
    )
    np.testing.assert_allclose(read(path).astype(int), image, atol=1)


def test_aperio_ycbcr_jpeg_2000_is_converted_to_rgb(
    picture: Callable[..., Picture], write: Write, read: Read
) -> None:
    image = picture()
    luma = image @ np.array([0.299, 0.587, 0.114])
    blue = 128 + (image[..., 2] - luma) / 1.772
    red = 128 + (image[..., 0] - luma) / 1.402
    ycbcr = np.stack([luma, blue, red], axis=-1).round().clip(0, 255).astype(np.uint8)
    path = write(
        ycbcr,
        tile=(256, 256),
        compression=33003,
        compressionargs={"level": 0, "codecformat": "j2k", "mct": False},
    )
    assert np.abs(read(path).astype(int) - image).max() <= 3


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True], ids=["TIFF", "BigTIFF"])
@pytest.mark.parametrize("codec", ["none", "lzw", "jpeg"])
def test_both_byte_orders_and_both_kinds_of_tiff_are_read(
    byteorder: str,
    bigtiff: bool,
    codec: str,
    picture: Callable[..., Picture],
    write: Write,
    read: Read,
) -> None:
    image = picture()
    path = write(
        image,
        tile=(256, 256),
        byteorder=byteorder,
        bigtiff=bigtiff,
        compression=None if codec == "none" else codec,
    )
    assert np.abs(read(path).astype(int) - image).mean() < 3


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("codec", [{}, {"compression": "lzw", "predictor": True}])
def test_16_bit_pixels_keep_their_high_byte(
    byteorder: str,
    codec: dict[str, Any],
    picture: Callable[..., Picture],
    write: Write,
    read: Read,
) -> None:
    image = picture()
    deep = image.astype(np.uint16) * 256 + 200
    path = write(deep, tile=(256, 256), byteorder=byteorder, **codec)
    np.testing.assert_array_equal(read(path), image)


@pytest.mark.parametrize("tile", [None, (256, 256)])
@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
def test_separate_planes_are_combined(
    tile: tuple[int, int] | None,
    compression: str | None,
    picture: Callable[..., Picture],
    write: Write,
    read: Read,
) -> None:
    image = picture()
    planes = np.ascontiguousarray(image.transpose(2, 0, 1))
    path = write(planes, planarconfig="separate", tile=tile, compression=compression)
    assert np.abs(read(path).astype(int) - image).mean() < (2 if compression == "jpeg" else 1e-9)


def test_unassociated_alpha_is_laid_over_white(
    picture: Callable[..., Picture], write: Write, read: Read
) -> None:
    image = picture()
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[:, :100] = 0
    alpha[:, 100:200] = 51  # 20 % opaque
    path = write(np.concatenate([image, alpha], -1), tile=(256, 256), extrasamples=["unassalpha"])
    pixels = read(path)
    np.testing.assert_array_equal(pixels[:, 200:], image[:, 200:])
    assert (pixels[:, :100] == 255).all()
    expected = image[:, 100:200] * 0.2 + 255 * 0.8
    np.testing.assert_allclose(pixels[:, 100:200], expected, atol=0.51)


def test_associated_alpha_is_not_multiplied_again(write: Write, read: Read) -> None:
    rgba = np.full((600, 600, 4), (40, 20, 10, 51), np.uint8)
    path = write(rgba, tile=(256, 256), extrasamples=["assocalpha"])
    assert (read(path) == (244, 224, 214)).all()


def test_a_fourth_sample_without_a_meaning_is_dropped(
    picture: Callable[..., Picture], write: Write, read: Read
) -> None:
    image = picture()
    extra = np.zeros((*image.shape[:2], 1), np.uint8)
    path = write(np.concatenate([image, extra], -1), tile=(256, 256), extrasamples=["unspecified"])
    np.testing.assert_array_equal(read(path), image)


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_a_viewer_gets_rgb_of_grey(
    photometric: str, picture: Callable[..., Picture], write: Write
) -> None:
    grey = picture()[..., 0]
    path = write(grey, tile=(256, 256), photometric=photometric, compression="lzw")
    expected = grey if photometric == "minisblack" else 255 - grey
    found = open_levels(path).region(0, 0, 0, grey.shape[1], grey.shape[0])
    np.testing.assert_array_equal(found, np.repeat(expected[..., None], 3, axis=-1))


def test_palette_pixels_are_looked_up(
    picture: Callable[..., Picture], write: Write, read: Read
) -> None:
    index = picture()[..., 0]
    table = np.random.default_rng(7).integers(0, 65_536, (3, 256), np.uint16)
    path = write(index, tile=(256, 256), photometric="palette", colormap=table)
    np.testing.assert_array_equal(read(path), (table >> 8).astype(np.uint8).T[index])


@pytest.mark.parametrize(
    ("image", "options", "reason"),
    [
        (np.zeros((600, 600, 3), np.float32), {}, "floating-point"),
        (np.zeros((600, 600, 3), np.int16), {}, "signed"),
        (np.zeros((600, 600, 3), np.uint32), {}, "32 bits"),
        (np.zeros((600, 600), bool), {}, "1 bits"),
        (np.zeros((600, 600, 4), np.uint8), {"photometric": "separated"}, "CMYK"),
        (np.zeros((600, 600, 3), np.uint16), {"photometric": "ycbcr"}, "YCbCr pixels of 16 bits"),
    ],
)
def test_what_has_no_faithful_conversion_is_refused_with_its_reason(
    image: NDArray[Any], options: dict[str, Any], reason: str, write: Write
) -> None:
    with pytest.raises(SlideError, match=reason):
        open_slide(write(image, **options))


def test_shared_jpeg_tables_are_used(
    picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture(512, 512)
    jpeg = imagecodecs.jpeg8_encode(image, level=95, outcolorspace="ycbcr")
    # libjpeg writes quantisation tables, the frame header, Huffman tables, then the scan.
    frame, scan = jpeg.index(b"\xff\xc0"), jpeg.index(b"\xff\xda")
    huffman = frame + 2 + int.from_bytes(jpeg[frame + 2 : frame + 4], "big")
    quantisation = jpeg.index(b"\xff\xdb")
    tables = b"\xff\xd8" + jpeg[quantisation:frame] + jpeg[huffman:scan] + b"\xff\xd9"
    abbreviated = b"\xff\xd8" + jpeg[frame:huffman] + jpeg[scan:]
    path = tmp_path / "shared-tables.tif"
    tifffile.imwrite(
        path,
        iter([abbreviated]),
        shape=image.shape,
        dtype=np.uint8,
        tile=(512, 512),
        photometric="ycbcr",
        compression="jpeg",
        metadata=None,
        description="AppMag = 4|MPP = 2.5",
        extratags=[(347, 7, len(tables), tables, True)],
    )
    assert np.abs(read(path).astype(int) - image).mean() < 2
