"""Real scans are read correctly."""

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.integrity import Completeness, check_integrity
from her2d.slides.metadata import MagnificationSource
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]


def reduced(path: Path, page: int, factor: int) -> NDArray[np.float64]:
    """A page of the file by tifffile's own reading, averaged over factor x factor pixels."""
    image = tifffile.imread(path, key=page)
    height, width = (side // factor for side in image.shape[:2])
    whole = image[: height * factor, : width * factor].astype(float)
    return np.asarray(whole.reshape(height, factor, width, factor, 3).mean(axis=(1, 3)))


def test_an_aperio_scan_at_20x_is_averaged_to_4x(cmu: Path, read: Callable[..., Picture]) -> None:
    with open_slide(cmu) as slide:
        metadata, grid = slide.metadata, slide.grid
    assert (metadata.vendor, metadata.magnification, metadata.mpp) == ("aperio", 20.0, 0.499)
    assert (grid.width, grid.height, grid.columns, grid.rows) == (444, 593, 1, 2)
    assert grid.um_per_px == pytest.approx(2.495)
    pixels = read(cmu)
    np.testing.assert_allclose(pixels, reduced(cmu, 0, 5), atol=0.51)


def test_its_tiles_are_padded_white_and_hold_tissue(
    cmu: Path, mosaic: Callable[..., Picture]
) -> None:
    with open_slide(cmu) as slide:
        whole = mosaic(slide)
    assert (whole[593:] == 255).all()
    assert (whole[:, 444:] == 255).all()
    assert cv2.cvtColor(whole[:512], cv2.COLOR_RGB2HSV)[..., 1].mean() > 10


def test_a_scan_without_magnification_is_refused_with_that_reason(
    without_magnification: Path,
) -> None:
    with pytest.raises(SlideError, match="has no magnification: neither AppMag nor MPP"):
        open_slide(without_magnification)


def test_it_is_read_once_a_magnification_is_assumed(
    without_magnification: Path, read: Callable[..., Picture]
) -> None:
    with open_slide(without_magnification, assume_magnification=40) as slide:
        assert slide.metadata.magnification_source is MagnificationSource.ASSUMED
        assert (slide.grid.width, slide.grid.height) == tuple(s // 10 for s in slide.dimensions)
    pixels = read(without_magnification, assume_magnification=40)
    # The 20x level serves, not the thumbnail between the levels.
    expected = reduced(without_magnification, 2, 5)
    np.testing.assert_allclose(pixels, expected, atol=0.51)


def test_real_files_are_complete_and_cut_anywhere_they_are_not(
    real_slide: Path, tmp_path: Path
) -> None:
    assert check_integrity(real_slide).completeness is Completeness.COMPLETE
    path = tmp_path / real_slide.name
    path.write_bytes((real_slide).read_bytes())
    size = path.stat().st_size
    rng = random.Random(3)
    for shorter in sorted((rng.randrange(size) for _ in range(25)), reverse=True):
        with path.open("r+b") as file:
            file.truncate(shorter)
        assert check_integrity(path).completeness is Completeness.INCOMPLETE


@pytest.mark.slow
def test_100_flipped_bytes_end_in_tiles_or_a_reason(real_slide: Path, tmp_path: Path) -> None:
    data = (real_slide).read_bytes()
    path = tmp_path / real_slide.name
    for seed in range(5):
        rng = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(100):
            damaged[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(SlideError), open_slide(path, assume_magnification=40) as slide:
            assert len(list(slide.tiles())) == slide.grid.columns * slide.grid.rows


def every_nth(image: Picture, n: int) -> Picture:
    return np.ascontiguousarray(image[::n, ::n])


def averaged(image: Picture, n: int) -> Picture:
    height, width = (side // n for side in image.shape[:2])
    whole = image[: height * n, : width * n]
    return np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def interpolated(image: Picture, n: int) -> Picture:
    height, width = (side // n for side in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("n", [2, 4, 5, 8, 16])
@pytest.mark.parametrize("make", [every_nth, averaged, interpolated])
def test_an_unmarked_level_of_real_tissue_is_known_however_it_was_made(
    make: Callable[[Picture, int], Picture], n: int, cmu: Path, tmp_path: Path
) -> None:
    scan = tifffile.imread(cmu, key=0)
    assert level_count(tmp_path / "a.tif", scan, make(scan, n)) == 2


@pytest.mark.parametrize("n", [2, 4, 8, 16])
@pytest.mark.parametrize(
    "change", [np.flipud, np.fliplr, lambda image: np.roll(image, image.shape[1] // 10, axis=1)]
)
def test_other_tissue_of_the_same_stain_is_not_a_level(
    change: Callable[[Picture], Picture], n: int, cmu: Path, tmp_path: Path
) -> None:
    scan = tifffile.imread(cmu, key=0)
    assert level_count(tmp_path / "a.tif", scan, change(averaged(scan, n))) == 1


def level_count(path: Path, scan: Picture, page: Picture) -> int:
    options: dict[str, Any] = {"tile": (256, 256), "compression": "jpeg", "photometric": "rgb"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(scan, description="AppMag = 20", metadata=None, **options)
        tiff.write(page, metadata=None, **options)
    with open_slide(path) as slide:
        return slide.level_count
