"""The grid has the models' micrometres per pixel, and a doubtful scale is noticed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.metadata import MagnificationSource
from her2d.slides.protocol import Slide
from her2d.slides.reader import open_slide
from her2d.slides.scale import find_scale_doubt

Picture = NDArray[np.uint8]

GLASS, INK = 240, 20
SIDE_UM, SLIDE_UM = 300.0, 600.0


def square(um_per_px: float) -> Picture:
    """Draw glass with a square of 300 um, as a camera of that resolution sees it."""
    edges = np.arange(round(SLIDE_UM / um_per_px) + 1) * um_per_px
    first = (SLIDE_UM - SIDE_UM) / 2
    dark = np.diff(np.clip(edges, first, first + SIDE_UM)) / um_per_px
    ink = dark[:, None] * dark[None, :]
    grey = np.round(GLASS + ink * (INK - GLASS)).astype(np.uint8)
    return np.stack([grey, np.maximum(grey, 60), grey], axis=-1)


def write_scan(
    path: Path,
    um_per_px: float,
    statement: str,
    *,
    downsamples: tuple[float, ...] = (),
    resolution_um: float | None = None,
) -> Path:
    """Write the square at a resolution and at coarser levels, with what the file states of it."""
    pages = [square(um_per_px * downsample) for downsample in (1.0, *downsamples)]
    height, width = pages[0].shape[:2]
    text = f"Motic V1.0.0\n{width}x{height} [0,0 {width}x{height}] [256x256] none|{statement}"
    options: dict[str, Any] = {"tile": (256, 256), "compression": "deflate", "photometric": "rgb"}
    with tifffile.TiffWriter(path) as tiff:
        for number, page in enumerate(pages):
            first = {"description": text} if number == 0 else {"subfiletype": 1}
            if resolution_um is not None:
                a_cm = 10_000 / resolution_um / (downsamples[number - 1] if number else 1)
                first |= {"resolution": (a_cm, a_cm), "resolutionunit": "CENTIMETER"}
            tiff.write(page, metadata=None, **options, **first)
    return path


def square_um(slide: Slide, mosaic: Callable[[Slide], Picture]) -> float:
    """Measure the side of the square in the tiles of a slide."""
    whole = mosaic(slide)[: slide.grid.height, : slide.grid.width, 0].astype(float)
    pixels = float(((GLASS - whole) / (GLASS - INK)).sum())
    return float(np.sqrt(pixels)) * slide.grid.um_per_px


@pytest.mark.parametrize(
    ("um_per_px", "statement", "downsamples"),
    [
        (0.26, "AppMag = 40|MPP = 0.26", (4, 16)),
        (0.26, "AppMag = 40|MPP = 0.26", (10.4,)),  # its level is 8 % coarser
        (0.23, "AppMag = 40|MPP = 0.23", (4, 10)),
        (0.4545, "AppMag = 20|MPP = 0.4545", (2, 5)),  # the level called 4x is 9 % finer
        (0.345, "AppMag = 20|MPP = 0.345", (2, 5, 8)),
        (0.36, "AppMag = 40|MPP = 0.36", (10,)),  # the level called 4x has 3.6 um/px
        (0.27, "MPP = 0.27", (10,)),
        (2.3, "AppMag = 4|MPP = 2.3", ()),
        (2.6, "AppMag = 4|MPP = 2.6", ()),
        (2.9, "AppMag = 4|MPP = 2.9", ()),
        (3.1, "AppMag = 4|MPP = 3.1", (2,)),
        (1.45, "AppMag = 10|MPP = 1.45", ()),
    ],
)
def test_tissue_has_its_size_where_the_resolution_is_known(
    um_per_px: float,
    statement: str,
    downsamples: tuple[float, ...],
    tmp_path: Path,
    mosaic: Callable[[Slide], Picture],
) -> None:
    path = write_scan(tmp_path / "a.tif", um_per_px, statement, downsamples=downsamples)
    with open_slide(path) as slide:
        assert slide.grid.um_per_px == pytest.approx(2.5, rel=0.05)
        assert square_um(slide, mosaic) == pytest.approx(SIDE_UM, rel=0.01)
        assert slide.grid.width * slide.grid.um_per_px == pytest.approx(SLIDE_UM, abs=5)


def test_the_scale_is_that_of_the_bundle(
    tmp_path: Path, mosaic: Callable[[Slide], Picture]
) -> None:
    path = write_scan(tmp_path / "a.tif", 0.24, "AppMag = 40|MPP = 0.24", downsamples=(10,))
    with open_slide(path) as slide:
        assert slide.grid.um_per_px == pytest.approx(2.4)
    with open_slide(path, um_per_px=2.6) as slide:
        assert slide.grid.um_per_px == pytest.approx(2.6)
        assert square_um(slide, mosaic) == pytest.approx(SIDE_UM, rel=0.01)


def test_the_objective_gives_the_grid_where_its_4x_is_within_5_percent(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "a.tif", 0.26, "AppMag = 40|MPP = 0.26", downsamples=(4,))
    with open_slide(path) as slide:
        assert slide.grid.level0_downsample == 10  # whole pixels are averaged
        assert slide.grid.um_per_px == pytest.approx(2.6)


@pytest.mark.parametrize(
    "statement", ["AppMag = 4|MPP = 3.57", "MPP = 3.57", "AppMag = 3|MPP = 3.57", "MPP = 3.2"]
)
def test_a_scan_that_is_over_25_percent_too_coarse_is_refused(
    statement: str, tmp_path: Path
) -> None:
    um_per_px = float(statement.rpartition("=")[2])
    path = write_scan(tmp_path / "a.tif", um_per_px, statement)
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    assert str(caught.value) == (
        f"a.tif was scanned at {um_per_px:g} um/px, coarser than the 4x (2.5 um/px) that HER2"
        " status is read at; scan it again at a higher magnification"
    )


@pytest.mark.parametrize(
    ("statement", "doubt"),
    [
        ("AppMag = 4|MPP = 2.5", None),
        ("AppMag = 4|MPP = 2.75", None),
        ("AppMag = 4|MPP = 2.76", "10 % coarser than the 2.5 um/px of the models"),
        ("AppMag = 4|MPP = 3.125", "25 % coarser"),
        ("AppMag = 3.5", "14 % coarser"),
        ("AppMag = 4", None),
    ],
)
def test_a_scan_that_was_enlarged_by_over_10_percent_is_doubtful(
    statement: str, doubt: str | None, tmp_path: Path
) -> None:
    path = write_scan(tmp_path / "a.tif", 2.7, statement)
    with open_slide(path) as slide:
        found = find_scale_doubt(slide.metadata, 2.5)
    assert (found is None) == (doubt is None)
    if found is not None and doubt is not None:
        assert doubt in found.remark
        assert not found.is_wrong


@pytest.mark.parametrize(
    ("tags_um", "used_um", "is_wrong"),
    [
        (0.25, 0.25, None),
        (0.275, 0.275, None),  # differs by 10 %, as scanners do
        (0.23, 0.23, None),
        (0.28, 0.25, False),
        (0.3125, 0.25, False),
        (0.22, 0.25, False),
        (0.1875, 0.25, False),
        (0.32, 0.25, True),
        (0.18, 0.25, True),
        (0.5, 0.25, True),
        (1.0, 0.25, True),
        (8.0, 0.25, None),  # as a program for screens writes them
    ],
)
def test_resolution_tags_are_believed_if_they_agree_with_the_objective(
    tags_um: float, used_um: float, is_wrong: bool | None, tmp_path: Path
) -> None:
    path = write_scan(
        tmp_path / "a.tif", 0.25, "AppMag = 40", downsamples=(2, 4), resolution_um=tags_um
    )
    with open_slide(path) as slide:
        um_per_px = slide.grid.um_per_px / slide.grid.level0_downsample
        assert um_per_px == pytest.approx(used_um, rel=1e-5)
        assert slide.grid.um_per_px == pytest.approx(2.5, rel=0.05)
        doubt = find_scale_doubt(slide.metadata, 2.5)
    assert (None if doubt is None else doubt.is_wrong) == is_wrong
    if doubt is not None:
        stated = f"The file states {tags_um:g} um/px (resolution tags), and AppMag = 40 means"
        assert doubt.remark.startswith(stated)


@pytest.mark.parametrize(
    ("assumed", "magnification", "mpp", "is_wrong"),
    [(40, 40, None, False), (10, 10, 1.0, None), (20, 40, None, True)],
)
def test_an_assumption_settles_a_contradiction_if_it_agrees_with_one_of_the_two(
    assumed: float,
    magnification: float,
    mpp: float | None,
    is_wrong: bool | None,
    tmp_path: Path,
) -> None:
    path = write_scan(tmp_path / "a.tif", 0.25, "AppMag = 40", resolution_um=1.0)
    with open_slide(path, assume_magnification=assumed) as slide:
        metadata = slide.metadata
    assert metadata.magnification == magnification
    assert metadata.mpp == (None if mpp is None else pytest.approx(mpp, rel=1e-5))
    settled = metadata.magnification_source is MagnificationSource.ASSUMED
    assert settled == (is_wrong is not True)
    doubt = find_scale_doubt(metadata, 2.5)
    assert (None if doubt is None else doubt.is_wrong) == is_wrong


COPY = "Motic V1.0.0\n{w}x{h} [0,0 {w}x{h}] [256x256]{arrow} JPEG/RGB Q = 75|{values}"


def write_copy(path: Path, times: float, values: str, *, arrow: bool) -> Path:
    """Write a scan that was made smaller, with the description of the whole scan."""
    image = square(1.0)
    height, width = image.shape[:2]
    text = COPY.format(
        w=round(width * times),
        h=round(height * times),
        arrow=f" -> {width}x{height}" if arrow else "",
        values=values,
    )
    options: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "metadata": None}
    tifffile.imwrite(path, image, description=text, **options)
    return path


@pytest.mark.parametrize("arrow", [True, False])
@pytest.mark.parametrize("values", ["AppMag = 40|MPP = 0.25", "AppMag = 40", "MPP = 0.25"])
def test_a_reduced_copy_does_not_say_whether_its_scale_is_that_of_the_scan(
    values: str, arrow: bool, tmp_path: Path
) -> None:
    path = write_copy(tmp_path / "a.tif", 4, values, arrow=arrow)
    with pytest.raises(SlideError, match="is a copy of a scan, 4 times as small, and does not say"):
        open_slide(path)
    with open_slide(path, assume_magnification=10) as slide:
        assert slide.metadata.mpp == pytest.approx(1.0)
        assert find_scale_doubt(slide.metadata, 2.5) is None
    with open_slide(path, assume_magnification=40) as slide:
        assert slide.metadata.mpp is None
        assert find_scale_doubt(slide.metadata, 2.5) is not None


@pytest.mark.parametrize("times", [0.5, 1.0, 1.04])
def test_a_scan_of_about_the_size_that_is_stated_is_no_copy(times: float, tmp_path: Path) -> None:
    path = write_copy(tmp_path / "a.tif", times, "AppMag = 10|MPP = 1", arrow=False)
    with open_slide(path) as slide:
        assert slide.metadata.mpp == 1.0


def test_an_mpp_that_an_assumption_overrides_stays_a_doubt(tmp_path: Path) -> None:
    path = write_scan(tmp_path / "a.tif", 0.25, "AppMag = 40|MPP = 0.5")
    with open_slide(path, assume_magnification=40) as slide:
        doubt = find_scale_doubt(slide.metadata, 2.5)
    assert doubt is not None
    assert not doubt.is_wrong
    assert doubt.remark == (
        "The file states 0.5 um/px (MPP), and the assumed 40x means about 0.25 um/px. The"
        " assumption was used."
    )
