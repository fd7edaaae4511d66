"""The pyramid is found among the images of a file, and the level that 4x is made from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
Page = tuple[Picture, dict[str, Any]]

BASE = "Motic V1.0.0\n{w}x{h} [0,0 {w}x{h}] [512x512] JPEG/RGB Q = 75|AppMag = {mag}"
TILED = {"tile": (256, 256), "compression": "lzw", "photometric": "rgb", "metadata": None}
STRIPPED = {"rowsperstrip": 16, "compression": "lzw", "photometric": "rgb", "metadata": None}


def flat(height: int, width: int, value: int) -> Picture:
    return np.full((height, width, 3), value, np.uint8)


def base(value: int = 40, *, height: int = 1600, width: int = 2400, mag: float = 40) -> Page:
    text = BASE.format(w=width, h=height, mag=mag)
    return flat(height, width, value), {**TILED, "description": text}


def write_pages(path: Path, pages: Sequence[Page], **options: Any) -> Path:
    with tifffile.TiffWriter(path, **options) as tiff:
        for image, page in pages:
            tiff.write(image, **page)
    return path


def thumbnail(value: int = 200) -> Page:
    return flat(267, 400, value), {
        **STRIPPED,
        "description": "Motic V1.0.0\n2400x1600 -> 400x267 - ",
    }


def label(value: int = 210) -> Page:
    return flat(300, 300, value), {**STRIPPED, "description": "Motic V1.0.0\nlabel 300x300"}


def macro(value: int = 220) -> Page:
    return flat(160, 456, value), {**STRIPPED, "description": "Motic V1.0.0\nmacro 456x160"}


def level(value: int, downsample: int) -> Page:
    """A page that is marked as a reduced image, so its grey value need not be the scan's."""
    return flat(1600 // downsample, 2400 // downsample, value), {**TILED, "subfiletype": 1}


def test_a_level_at_4x_is_used_as_it_is(tmp_path: Path, read: Callable[..., Picture]) -> None:
    path = write_pages(tmp_path / "a.tif", [base(), level(90, 4), level(100, 10)])
    pixels = read(path)
    assert pixels.shape == (160, 240, 3)
    assert (pixels == 100).all()


def test_otherwise_the_nearest_finer_level_is_averaged(
    tmp_path: Path, read: Callable[..., Picture]
) -> None:
    path = write_pages(tmp_path / "a.tif", [base(), level(80, 2), level(90, 4), level(110, 16)])
    pixels = read(path)
    assert pixels.shape == (160, 240, 3)
    assert (pixels == 90).all()


@pytest.mark.parametrize(
    "order", [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (3, 0, 4, 2, 5, 1), (1, 4, 5, 3, 2, 0)]
)
def test_the_pyramid_is_found_in_any_order(
    order: tuple[int, ...], tmp_path: Path, read: Callable[..., Picture]
) -> None:
    pages = [base(), thumbnail(), level(90, 4), level(120, 32), label(), macro()]
    path = write_pages(tmp_path / "a.tif", [pages[index] for index in order])
    assert (read(path) == 90).all()
    with open_slide(path) as slide:
        assert (slide.metadata.width, slide.metadata.height) == (2400, 1600)
        assert slide.metadata.magnification == 40


def test_an_unnamed_thumbnail_of_the_right_size_is_not_a_level(
    tmp_path: Path, read: Callable[..., Picture]
) -> None:
    unnamed = (flat(160, 240, 200), STRIPPED)
    path = write_pages(tmp_path / "a.tif", [base(), unnamed, level(90, 4)])
    assert (read(path) == 90).all()


def test_a_macro_larger_than_the_scan_is_not_the_scan(
    tmp_path: Path, read: Callable[..., Picture]
) -> None:
    photograph = (flat(2000, 3000, 220), {**STRIPPED, "description": "Aperio\nmacro 3000x2000"})
    path = write_pages(tmp_path / "a.tif", [base(), photograph])
    assert (read(path) == 40).all()


def test_an_image_marked_as_a_reduced_page_is_a_macro(
    tmp_path: Path, read: Callable[..., Picture]
) -> None:
    photograph = (flat(2000, 3000, 220), {**STRIPPED, "subfiletype": 9})
    path = write_pages(tmp_path / "a.tif", [base(), photograph])
    assert (read(path) == 40).all()


def test_a_stripped_pyramid_is_a_pyramid(tmp_path: Path, read: Callable[..., Picture]) -> None:
    scan, options = base()
    pages = [
        (scan, {**STRIPPED, "description": options["description"]}),
        (flat(400, 600, 90), {**STRIPPED, "subfiletype": 1}),
        label(),
    ]
    assert (read(write_pages(tmp_path / "a.tif", pages)) == 90).all()


@pytest.mark.parametrize("bigtiff", [False, True])
def test_levels_in_subifds_are_found(
    bigtiff: bool, tmp_path: Path, read: Callable[..., Picture]
) -> None:
    scan, options = base()
    pages = [(scan, {**options, "subifds": 2}), level(80, 2), level(90, 4), label()]
    assert (read(write_pages(tmp_path / "a.tif", pages, bigtiff=bigtiff)) == 90).all()


def test_another_aspect_ratio_is_another_image(
    tmp_path: Path, read: Callable[..., Picture]
) -> None:
    path = write_pages(tmp_path / "a.tif", [base(), (flat(400, 570, 90), TILED)])
    assert (read(path) == 40).all()


@pytest.mark.parametrize("magnification", [3.85, 4.0, 4.19])
def test_within_5_percent_of_4x_nothing_is_resampled(
    magnification: float, tmp_path: Path, read: Callable[..., Picture]
) -> None:
    path = write_pages(tmp_path / "a.tif", [base(mag=magnification)])
    assert read(path).shape == (1600, 2400, 3)


def test_a_scan_coarser_than_4x_is_refused(tmp_path: Path) -> None:
    path = write_pages(tmp_path / "a.tif", [base(mag=2)])
    with pytest.raises(SlideError, match=r"scanned at 2x, coarser than the 4x"):
        open_slide(path)


def test_the_grid_is_that_of_the_objective_and_its_scale_that_of_the_mpp(tmp_path: Path) -> None:
    scan, options = base(height=3000, width=6001)
    text = options["description"] + "|MPP = 0.260417"
    path = write_pages(tmp_path / "a.tif", [(scan, {**options, "description": text})])
    with open_slide(path) as slide:
        grid = slide.grid
    assert (grid.width, grid.height) == (
        600,
        300,
    )  # the 601st pixel would be a tenth of a pixel wide
    assert (grid.columns, grid.rows) == (2, 1)
    assert grid.level0_downsample == 10.0
    assert grid.um_per_px == pytest.approx(2.60417)
    assert grid.extent(0, 0) == (512, 300)
    assert grid.extent(1, 0) == (88, 300)


def test_a_file_of_labels_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SlideError, match="no slide image"):
        open_slide(write_pages(tmp_path / "a.tif", [label(), macro()]))
