"""An image that is neither the scan nor a known picture is refused as an area, or reported.

A file may hold a second section that no tag tells from a macro or a label. Nothing that might be
tissue is passed over without a word.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.levels import open_levels
from her2d.slides.reader import open_slide
from tests.slides.tissue import out_of_focus, reduced, section

Picture = NDArray[np.uint8]
Page = tuple[Picture, dict[str, Any]]

TILED: dict[str, Any] = {
    "tile": (256, 256),
    "compression": "jpeg",
    "photometric": "rgb",
    "metadata": None,
}
STRIPPED: dict[str, Any] = {
    "rowsperstrip": 16,
    "compression": "lzw",
    "photometric": "rgb",
    "metadata": None,
}
MOTIC = "Motic V1.0.0\n2400x1600 [0,0 2400x1600] [512x512] JPEG/RGB|AppMag = 40"
QUARTER_UM = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
SCAN, NEIGHBOUR = section(1), section(2)
SMALL = section(7, height=330, width=410)  # 1/28 of the scan's pixels


def write_pages(path: Path, pages: Sequence[Page]) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for image, options in pages:
            tiff.write(np.ascontiguousarray(image), **deepcopy(options))
    return path


def scan(picture: Picture = SCAN, **options: Any) -> Page:
    return picture, {**TILED, "description": MOTIC, **options}


def unread(path: Path) -> str | None:
    with open_slide(path) as slide:
        assert (slide.metadata.width, slide.metadata.height) == (2400, 1600)
        found = slide.metadata.unread_pictures
        assert slide.properties.get("her2d.unread-pictures") == found
    return found


def stained(
    seed: int, color: tuple[int, int, int], height: int = 1600, width: int = 2400
) -> Picture:
    """Draw a section in another stain: dark cells on a pale ground, with glass around them."""
    structure = section(seed, height=height, width=width).astype(np.int16) - (205, 140, 185)
    picture = np.clip(structure + color, 0, 255).astype(np.uint8)
    picture[: height // 4] = 244
    return picture


def on_glass(tissue: Picture, height: int, width: int) -> Picture:
    """Lay a piece of tissue on a larger pane of glass."""
    whole = np.full((height, width, 3), 243, np.uint8)
    y, x = (height - tissue.shape[0]) // 2, (width - tissue.shape[1]) // 2
    whole[y : y + tissue.shape[0], x : x + tissue.shape[1]] = tissue
    return whole


def label(
    height: int = 420, width: int = 400, paper: tuple[int, int, int] = (250, 249, 246)
) -> Picture:
    """Draw the label of a slide: print on white or coloured paper."""
    picture = np.full((height, width, 3), paper, np.uint8)
    for line in range(5):
        at = (20, 70 + 70 * line)
        cv2.putText(picture, "S26-1042 HER2", at, cv2.FONT_HERSHEY_SIMPLEX, 1.4, (18, 18, 20), 3)
    return picture


def macro(height: int = 400, width: int = 600) -> Picture:
    """Draw a photograph of a slide: grey glass with dark edges, a label and tissue in small."""
    picture = np.full((height, width, 3), 176, np.uint8)
    picture[:12], picture[-12:], picture[:, :10] = 25, 30, 20
    picture[20:-20, 14:190] = cv2.resize(label(), (176, height - 40))
    picture[120:280, 300:480] = cv2.resize(SCAN[:800, :900], (180, 160))
    return picture


@pytest.mark.parametrize(
    "area",
    [
        SMALL,
        section(7, height=600, width=300),
        on_glass(SMALL[:200, :200], 330, 540),
        stained(8, (150, 105, 75), 330, 410),
        stained(9, (196, 196, 212), 330, 410),
    ],
    ids=["tissue", "core", "on glass", "brown", "pale blue"],
)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_small_area_that_is_stored_like_the_scan_is_refused(
    area: Picture, order: tuple[int, int], tmp_path: Path
) -> None:
    mine = stained(3, (196, 196, 212))
    pages = [scan(mine), (area, TILED)]
    path = write_pages(tmp_path / "a.tif", [pages[index] for index in order])
    with pytest.raises(SlideError, match="holds 2 scanned areas") as caught:
        open_slide(path)
    assert caught.value.code == "several_areas"
    with pytest.raises(SlideError, match="holds 2 scanned areas"):
        open_levels(path)


def test_a_small_area_in_strips_is_refused_where_both_state_one_pixel_size(tmp_path: Path) -> None:
    page = (SMALL, {**STRIPPED, **QUARTER_UM})
    with pytest.raises(SlideError, match="holds 2 scanned areas"):
        open_slide(write_pages(tmp_path / "a.tif", [scan(**QUARTER_UM), page]))


def test_a_small_area_among_named_pictures_is_refused(tmp_path: Path) -> None:
    pages = [
        scan(),
        (reduced(SCAN, 4), {**TILED, "subfiletype": 1}),
        (label(), {**STRIPPED, "description": "Motic V1.0.0\nlabel 400x420"}),
        (macro(), {**STRIPPED, "description": "Motic V1.0.0\nmacro 600x400"}),
        (SMALL, TILED),
    ]
    with pytest.raises(SlideError, match="holds 2 scanned areas"):
        open_slide(write_pages(tmp_path / "a.tif", pages))


def test_every_small_area_is_counted(tmp_path: Path) -> None:
    pages = [scan(), *[(section(seed, height=400, width=300), TILED) for seed in (5, 6, 7)]]
    with pytest.raises(SlideError, match="holds 4 scanned areas"):
        open_slide(write_pages(tmp_path / "a.tif", pages))


@pytest.mark.parametrize(
    "picture",
    [
        label(),
        label(paper=(244, 170, 190)),
        label(paper=(250, 240, 120)),
        macro(),
        np.full((400, 420, 3), (225, 180, 200), np.uint8),
        np.full((400, 420, 3), 250, np.uint8),
        section(7, height=160, width=220),
        cv2.resize(macro(), (900, 300)),
        section(7, height=260, width=700),
    ],
    ids=[
        "label",
        "pink",
        "yellow",
        "macro",
        "uniform",
        "glass",
        "tiny",
        "slide",
        "shape of a slide",
    ],
)
@pytest.mark.parametrize("layout", [TILED, STRIPPED], ids=["tiles", "strips"])
def test_a_label_or_macro_without_a_name_is_left_out_and_said(
    picture: Picture, layout: dict[str, Any], tmp_path: Path
) -> None:
    height, width = picture.shape[:2]
    said = f"1 further picture of {width} x {height} was not read"
    assert unread(write_pages(tmp_path / "a.tif", [scan(), (picture, layout)])) == said


@pytest.mark.parametrize(
    ("picture", "options"),
    [
        (SMALL, STRIPPED),
        (SMALL, {**TILED, "compression": "lzw"}),
        (SMALL, {**TILED, "tile": (128, 128)}),
        (SMALL, {**TILED, "subfiletype": 1}),
        (SMALL, {**TILED, "resolution": (3_000, 3_000), "resolutionunit": "CENTIMETER"}),
        (SMALL[..., 0], {**TILED, "compression": "zlib", "photometric": "minisblack"}),
        (SCAN[..., 0], {**TILED, "compression": "zlib", "photometric": "minisblack"}),
        (reduced(NEIGHBOUR, 4), TILED),
        (reduced(NEIGHBOUR, 4), STRIPPED),
    ],
    ids=[
        *("strips", "another compression", "other tiles", "marked as reduced", "coarser"),
        *("grey", "grey and of the scan's size", "shape of a level", "shape of a thumbnail"),
    ],
)
def test_a_picture_that_nothing_explains_is_left_out_and_said(
    picture: Picture, options: dict[str, Any], tmp_path: Path
) -> None:
    height, width = picture.shape[:2]
    path = write_pages(tmp_path / "a.tif", [scan(**QUARTER_UM), (picture, options)])
    assert unread(path) == f"1 further picture of {width} x {height} was not read"


def test_several_pictures_are_said_in_one_clause(tmp_path: Path) -> None:
    pages = [scan(), (macro(), STRIPPED), (label(), STRIPPED)]
    path = write_pages(tmp_path / "a.tif", pages)
    assert unread(path) == "2 further pictures of 600 x 400 and 400 x 420 were not read"
    path = write_pages(tmp_path / "b.tif", [*pages, (label(300, 200), STRIPPED)])
    assert unread(path) == "3 further pictures, the largest of 600 x 400, were not read"


@pytest.mark.parametrize(
    "pages",
    [
        [],
        [(reduced(SCAN, 4), {**TILED, "subfiletype": 1}), (reduced(SCAN, 10), TILED)],
        [(reduced(SCAN, 6), STRIPPED)],
        [(label(), {**STRIPPED, "subfiletype": 1}), (macro(), {**STRIPPED, "subfiletype": 9})],
        [
            (label(), {**TILED, "description": "Label"}),
            (macro(), {**TILED, "description": "Macro"}),
        ],
        [
            (
                SCAN[..., 0],
                {
                    **TILED,
                    "compression": "zlib",
                    "photometric": "minisblack",
                    "description": "Mask",
                },
            )
        ],
    ],
    ids=["alone", "levels", "thumbnail", "marked as Aperio does", "named", "mask"],
)
def test_of_what_is_known_nothing_is_said(pages: list[Page], tmp_path: Path) -> None:
    assert unread(write_pages(tmp_path / "a.tif", [scan(), *pages])) is None


def test_of_a_real_scan_with_thumbnail_label_and_macro_nothing_is_said(real_slide: Path) -> None:
    with open_slide(real_slide, assume_magnification=20) as slide:
        assert slide.metadata.unread_pictures is None


def test_the_levels_of_other_focal_planes_are_known(tmp_path: Path) -> None:
    planes = [SCAN, out_of_focus(SCAN, 6)]
    pages = [page for plane in planes for page in ((plane, TILED), (reduced(plane, 4), TILED))]
    path = write_pages(tmp_path / "a.tif", [scan(), *pages[1:]])
    assert unread(path) is None


def test_levels_of_a_picture_that_is_left_out_are_not_counted(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(SCAN, **TILED, description=MOTIC)
        tiff.write(macro(), **TILED, subifds=1)
        tiff.write(reduced(macro(), 2), **TILED, subfiletype=1)
    assert unread(tmp_path / "a.tif") == "1 further picture of 600 x 400 was not read"
