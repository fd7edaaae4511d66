"""JPEG blocks are decoded at half size where that changes next to nothing, and the run says so."""

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.grid import Tile
from her2d.slides.half_size import HALF_SIZE
from her2d.slides.reader import open_slide
from her2d.slides.slide import TiffSlide

Picture = NDArray[np.uint8]
JPEG: dict[str, Any] = {"tile": (256, 256), "compression": "jpeg", "subsampling": (2, 2)}
AT_40X = "AppMag = 40|MPP = 0.25"


@pytest.fixture
def differences(
    mosaic: Callable[[TiffSlide], Picture],
) -> Callable[[Path], NDArray[np.int16]]:
    """By how much each pixel of the tiles differs from those of blocks that are decoded whole."""

    def compare(path: Path) -> NDArray[np.int16]:
        with open_slide(path) as slide:
            assert isinstance(slide, TiffSlide)
            assert slide.metadata.decoding == HALF_SIZE
            at_half_size = mosaic(slide).astype(np.int16)
            slide.metadata = replace(slide.metadata, decoding=None)
            return np.abs(mosaic(slide) - at_half_size)

    return compare


@pytest.fixture(scope="session")
def as_40x(cmu: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real scan's own blocks, in a file that states 40x."""
    path = tmp_path_factory.mktemp("slides") / "cmu-40x.svs"
    data = cmu.read_bytes().replace(b"AppMag = 20", b"AppMag = 40")
    path.write_bytes(data.replace(b"MPP = 0.4990", b"MPP = 0.2495"))
    return path


def test_real_blocks_differ_by_3_of_255_at_most_and_hardly_any_by_over_1(
    as_40x: Path, differences: Callable[[Path], Any]
) -> None:
    found = differences(as_40x)
    assert 0 < found.max() <= 3
    assert (found > 1).mean() < 0.0005
    assert found.mean() < 0.05


@pytest.mark.parametrize("sampling", [(1, 1), (2, 2)])
def test_real_tissue_enlarged_to_40x_differs_by_4_at_most(
    sampling: tuple[int, int],
    cmu: Path,
    write: Callable[..., Path],
    differences: Callable[[Path], Any],
) -> None:
    scan = tifffile.imread(cmu, key=0)
    large = np.asarray(cv2.resize(scan, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC), np.uint8)
    options = JPEG | {"subsampling": sampling, "compressionargs": {"level": 75}}
    found = differences(write(large, description=AT_40X, **options))
    assert 0 < found.max() <= 4
    assert (found > 1).mean() < 0.005


@pytest.mark.parametrize("period", [1, 2, 3])
def test_the_finest_dark_and_light_patterns_differ_by_1_at_most(
    period: int, write: Callable[..., Path], differences: Callable[[Path], Any]
) -> None:
    y, x = np.mgrid[:1400, :1600] // period
    board = np.where(((x + y) % 2)[..., None], np.uint8([250, 240, 250]), np.uint8([10, 0, 20]))
    assert differences(write(board, description=AT_40X, **JPEG)).max() <= 1


def test_pixels_at_half_size_are_not_shifted(
    picture: Callable[..., Picture], write: Callable[..., Path], read: Callable[..., Picture]
) -> None:
    image = picture(2000, 2600)
    found = read(write(image, description=AT_40X, **JPEG)).astype(float)
    expected = image.reshape(200, 10, 260, 10, 3).mean(axis=(1, 3))
    assert abs((found - expected).mean()) < 0.3
    shifted = [np.roll(expected, by, axis=axis) for by in (-1, 1) for axis in (0, 1)]
    best = np.abs(found - expected).mean()
    assert all(np.abs(found - other).mean() > 3 * best for other in shifted)


@pytest.mark.parametrize("photometric", ["rgb", "ycbcr"])
def test_colours_are_those_that_the_tags_state(
    photometric: str,
    tmp_path: Path,
    retag: Callable[..., Path],
    differences: Callable[[Path], Any],
) -> None:
    image = np.zeros((1280, 1280, 3), np.uint8)
    image[:] = (200, 90, 150)
    image[400:900, 300:800] = (90, 40, 160)
    space = None if photometric == "ycbcr" else "rgb"
    blocks = [
        imagecodecs.jpeg8_encode(
            image[y : y + 256, x : x + 256],
            level=90,
            subsampling="444",
            colorspace="rgb",
            outcolorspace=space,
        )
        for y in range(0, 1280, 256)
        for x in range(0, 1280, 256)
    ]
    path = tmp_path / "scan.tif"
    tifffile.imwrite(
        path,
        iter(blocks),
        shape=image.shape,
        dtype=np.uint8,
        tile=(256, 256),
        compression="jpeg",
        photometric="ycbcr",
        description=AT_40X,
        metadata=None,
    )
    retag(path, {262: (3, 1, b"\x02\0" if photometric == "rgb" else b"\x06\0")})
    assert differences(path).mean() < 0.05
    with open_slide(path) as slide:
        (tile,) = slide.tiles()
    np.testing.assert_allclose(tile.pixels[50, 50], (90, 40, 160), atol=3)
    np.testing.assert_allclose(tile.pixels[10, 10], (200, 90, 150), atol=3)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(
            {"description": "AppMag = 20"}, id="averaged over 5 x 5, where pixels straddle"
        ),
        pytest.param({"description": "AppMag = 40|MPP = 0.2712"}, id="averaged over 9.2 x 9.2"),
        pytest.param({"subsampling": (2, 1)}, id="chroma of half the width"),
        pytest.param({"compression": "zlib", "subsampling": None}, id="not JPEG"),
        pytest.param({"description": "AppMag = 4"}, id="not averaged"),
    ],
)
def test_every_other_scan_is_decoded_whole(
    options: dict[str, Any],
    picture: Callable[..., Picture],
    write: Callable[..., Path],
    mosaic: Callable[[TiffSlide], Picture],
) -> None:
    path = write(picture(1100, 1400), **({"description": AT_40X} | JPEG | options))
    with open_slide(path) as slide:
        assert isinstance(slide, TiffSlide)
        found, said = mosaic(slide), slide.metadata.decoding
        slide.metadata = replace(slide.metadata, decoding=None)
        np.testing.assert_array_equal(found, mosaic(slide))
    assert said is None


def test_a_damaged_first_block_does_not_keep_the_others_from_being_halved(
    picture: Callable[..., Picture], write: Callable[..., Path]
) -> None:
    path = write(picture(1100, 1400), description=AT_40X, **JPEG)
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages.first.dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(64))
    with open_slide(path) as slide:
        assert slide.metadata.decoding == HALF_SIZE


def test_blocks_with_odd_sides_at_the_edge_are_decoded_whole(
    picture: Callable[..., Picture], write: Callable[..., Path], differences: Callable[[Path], Any]
) -> None:
    found = differences(write(picture(1281, 1535), description=AT_40X, **JPEG))
    assert found[:128, 128:153].max() == 0  # from the blocks of 255 x 256 pixels
    assert found[:128, :128].max() > 0


def test_strips_that_begin_at_an_odd_row_are_decoded_whole(
    write: Callable[..., Path], retag: Callable[..., Path]
) -> None:
    even = np.full((801, 1200, 3), 245, np.uint8)
    strips = [
        imagecodecs.jpeg8_encode(rows, colorspace="rgb", outcolorspace="ycbcr", subsampling="420")
        for rows in (even[:401], even[401:])
    ]
    path = write(even, rowsperstrip=401, compression="zlib", description=AT_40X)
    at = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"".join(strips))
    odd = {
        259: (3, 1, struct.pack("<H", 7)),
        262: (3, 1, struct.pack("<H", 6)),
        273: (4, 2, struct.pack("<II", at, at + len(strips[0]))),
        279: (4, 2, struct.pack("<II", *map(len, strips))),
        530: (3, 2, struct.pack("<HH", 2, 2)),
    }
    with open_slide(retag(path, odd)) as slide:
        (tile,) = slide.tiles()
        assert slide.metadata.decoding is None
    assert isinstance(tile, Tile)
