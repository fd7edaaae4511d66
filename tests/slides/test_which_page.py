"""The scan is the page that the file says is it, and a level shows what the scan shows.

Each file holds two pictures that look alike, so that only the right page gives the right picture.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.levels import open_levels
from her2d.slides.reader import open_slide
from tests.slides.tissue import neighbour_in_one_corner, reduced, section

Picture = NDArray[np.uint8]
Read = Callable[..., Picture]
Page = tuple[Picture, dict[str, Any]]

TILED = {"tile": (256, 256), "compression": "zlib", "photometric": "rgb", "metadata": None}
STRIPPED = {"rowsperstrip": 16, "compression": "lzw", "photometric": "rgb", "metadata": None}
JPEG = {
    "tile": (512, 512),
    "compression": "jpeg",
    "compressionargs": {"level": 60},
    "photometric": "rgb",
    "metadata": None,
}
SCAN, NEIGHBOUR = section(1), section(2)


def states(picture: Picture, magnification: float = 40) -> str:
    height, width = picture.shape[:2]
    size = f"{width}x{height}"
    return f"Motic V1.0.0\n{size} [0,0 {size}] [512x512] JPEG/RGB|AppMag = {magnification}"


def write_pages(path: Path, pages: Sequence[Page]) -> Path:
    with tifffile.TiffWriter(path) as tiff:
        for image, options in pages:
            tiff.write(image, **deepcopy(options))  # TiffWriter changes nested options
    return path


def scan(**options: Any) -> Page:
    return SCAN, {**TILED, "description": states(SCAN), **options}


def assert_is(found: Picture, picture: Picture, factor: int = 10, atol: float = 2.0) -> None:
    """Check that a scan read at 4x is `picture` averaged, which no other section is."""
    expected = reduced(picture, factor)
    assert found.shape == expected.shape
    assert np.abs(found.astype(float) - expected).mean() < atol
    assert np.abs(reduced(NEIGHBOUR, factor).astype(float) - expected).mean() > 10


@pytest.mark.parametrize("codec", [TILED, JPEG], ids=["lossless", "JPEG"])
def test_an_unmarked_level_is_used_where_it_shows_the_scan(
    codec: dict[str, Any], tmp_path: Path, read: Read
) -> None:
    pages = [(SCAN, {**codec, "description": states(SCAN)}), (reduced(SCAN, 4), codec)]
    path = write_pages(tmp_path / "a.tif", pages)
    with open_slide(path) as slide:
        assert slide.level_downsamples == (1.0, 4.0)
    assert_is(read(path), SCAN, atol=5.0 if codec is JPEG else 1.0)


@pytest.mark.parametrize("every_nth_pixel", [2, 4, 5, 10])
def test_a_level_may_be_made_of_every_nth_pixel(every_nth_pixel: int, tmp_path: Path) -> None:
    level = np.ascontiguousarray(SCAN[::every_nth_pixel, ::every_nth_pixel])
    with open_slide(write_pages(tmp_path / "a.tif", [scan(), (level, TILED)])) as slide:
        assert slide.level_downsamples == (1.0, float(every_nth_pixel))


@pytest.mark.parametrize("factor", [4, 10])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_neighbouring_section_in_small_is_not_a_level(
    factor: int, order: tuple[int, int], tmp_path: Path, read: Read
) -> None:
    pages = [scan(), (reduced(NEIGHBOUR, factor), TILED)]
    path = write_pages(tmp_path / "a.tif", [pages[index] for index in order])
    with open_slide(path) as slide:
        assert slide.level_count == 1
    assert_is(read(path), SCAN)


def test_a_page_that_shows_the_scan_in_part_only_is_not_a_level(tmp_path: Path, read: Read) -> None:
    mixed = neighbour_in_one_corner(SCAN, NEIGHBOUR)
    path = write_pages(tmp_path / "a.tif", [scan(), (reduced(mixed, 10), TILED)])
    with open_slide(path) as slide:
        assert slide.level_count == 1
    assert_is(read(path), SCAN)


def test_a_darker_copy_is_not_a_level(tmp_path: Path) -> None:
    darker = (reduced(SCAN, 10) * 0.8).astype(np.uint8)
    with open_slide(write_pages(tmp_path / "a.tif", [scan(), (darker, TILED)])) as slide:
        assert slide.level_count == 1


def test_background_does_not_hide_that_another_section_is_shown(tmp_path: Path) -> None:
    glass = np.full_like(SCAN, 244)
    mine, other = glass.copy(), glass.copy()
    mine[600:1000, 900:1500] = SCAN[600:1000, 900:1500]
    other[600:1000, 900:1500] = NEIGHBOUR[600:1000, 900:1500]
    options = {**TILED, "description": states(mine)}
    path = write_pages(tmp_path / "a.tif", [(mine, options), (reduced(other, 10), TILED)])
    with open_slide(path) as slide:
        assert slide.level_count == 1


def test_a_viewer_shows_the_same_levels(tmp_path: Path) -> None:
    pages = [scan(), (reduced(NEIGHBOUR, 10), TILED), (reduced(SCAN, 4), TILED)]
    levels = open_levels(write_pages(tmp_path / "a.tif", pages)).levels
    assert [level.downsample_x for level in levels] == [1.0, 4.0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"subfiletype": 1},
        {"subfiletype": 9},
        {"description": "Motic V1.0.0 macro 3000x3000"},
        {"description": "Motic V1.0.0\rMACRO 3000x3000"},
        {"description": "Motic V1.0.0\n\u5b8f\u89c2\u56fe 3000x3000".encode()},
    ],
    ids=["unnamed", "reduced", "reduced page", "one line", "capitals", "Chinese"],
)
@pytest.mark.parametrize("layout", [STRIPPED, JPEG], ids=["strips", "tiles"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_macro_larger_than_the_scan_is_not_the_scan(
    options: dict[str, Any],
    layout: dict[str, Any],
    order: tuple[int, int],
    tmp_path: Path,
    read: Read,
) -> None:
    macro = (np.full((3000, 3000, 3), 235, np.uint8), {**layout, **options})
    pages = [scan(), macro]
    assert_is(read(write_pages(tmp_path / "a.tif", [pages[index] for index in order])), SCAN)


def test_the_thumbnail_states_which_page_is_the_scan(tmp_path: Path, read: Read) -> None:
    thumbnail = (reduced(SCAN, 6), {**STRIPPED, "description": "Aperio\n2400x1600 -> 400x266 - |"})
    larger = (np.full((3000, 3000, 3), 235, np.uint8), JPEG)
    path = write_pages(tmp_path / "a.tif", [thumbnail, larger, (SCAN, TILED)])
    assert_is(read(path, assume_magnification=40), SCAN)


def test_a_page_that_states_a_magnification_comes_before_a_larger_one(
    tmp_path: Path, read: Read
) -> None:
    larger = (np.full((3000, 3000, 3), 235, np.uint8), JPEG)
    pages = [larger, scan(description="AppMag = 40")]
    assert_is(read(write_pages(tmp_path / "a.tif", pages)), SCAN)


def test_a_small_level_in_front_that_states_a_magnification_is_not_the_scan(
    tmp_path: Path, read: Read
) -> None:
    preview = (reduced(SCAN, 8), {**TILED, "description": "AppMag = 40"})
    assert_is(read(write_pages(tmp_path / "a.tif", [preview, (SCAN, TILED)])), SCAN)


def test_a_page_that_is_marked_as_reduced_is_not_the_scan(tmp_path: Path, read: Read) -> None:
    pages = [
        (NEIGHBOUR[:, :1600].repeat(2, axis=0), {**TILED, "subfiletype": 1}),
        (SCAN, {**TILED, "description": "AppMag = 40"}),
    ]
    assert_is(read(write_pages(tmp_path / "a.tif", pages)), SCAN)


def test_a_level_alone_in_a_file_is_read(tmp_path: Path, read: Read) -> None:
    assert_is(read(write_pages(tmp_path / "a.tif", [scan(subfiletype=1)])), SCAN)


def test_ventanas_numbers_tell_the_scan_and_its_levels(tmp_path: Path, read: Read) -> None:
    pages = [
        (NEIGHBOUR[:600, :500], {**TILED, "description": "Label_Image"}),
        (SCAN, {**TILED, "description": "level=0 mag=40 quality=90"}),
        (reduced(SCAN, 4), {**TILED, "description": "level=1 mag=10 quality=90"}),
    ]
    path = write_pages(tmp_path / "a.tif", pages)
    assert_is(read(path, assume_magnification=40), SCAN)
    with open_slide(path, assume_magnification=40) as slide:
        assert slide.level_count == 2
        assert list(slide.associated_images) == ["label"]


@pytest.mark.parametrize("marked", [{"subfiletype": 1}, {}], ids=["marked", "unmarked"])
def test_levels_that_are_padded_to_whole_tiles_are_not_squeezed(
    marked: dict[str, Any], tmp_path: Path, read: Read
) -> None:
    whole = section(3, height=2048, width=2432)
    pages = [(whole, {**TILED, "tile": (64, 64), "description": states(whole, 16)})]
    for factor in (2, 4):
        small = reduced(whole, factor)
        padding = [(0, -side % 64) for side in small.shape[:2]]
        padded = np.pad(small, (*padding, (0, 0)), constant_values=255)
        pages.append((padded, {**TILED, "tile": (64, 64), **marked}))
    assert pages[2][0].shape != reduced(whole, 4).shape
    path = write_pages(tmp_path / "a.tif", pages)
    np.testing.assert_array_equal(read(path), reduced(whole, 4))
    with open_slide(path) as slide:
        assert slide.level_downsamples == (1.0, 2.0, 4.0)
        assert slide.level_dimensions[-1] == (608, 512)
        assert slide.get_thumbnail((304, 256)).shape == (256, 304, 3)
        difference = slide.get_thumbnail((304, 256)).astype(float) - reduced(whole, 8)
        assert np.abs(difference).max() <= 2


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    "options",
    [{}, {"description": states(NEIGHBOUR)}, {"subfiletype": 2}],
    ids=["unnamed", "stated", "page"],
)
def test_two_sections_of_one_size_are_refused(
    order: tuple[int, int], options: dict[str, Any], tmp_path: Path
) -> None:
    pages = [scan(), (NEIGHBOUR, {**TILED, **options})]
    path = write_pages(tmp_path / "a.tif", [pages[index] for index in order])
    with pytest.raises(SlideError, match=r"a\.tif holds 2 scanned areas") as caught:
        open_slide(path)
    assert caught.value.code == "several_areas"


def test_two_sections_of_different_sizes_are_refused_with_their_levels(tmp_path: Path) -> None:
    other = np.ascontiguousarray(NEIGHBOUR[:1000, :1300])
    pages = [
        scan(),
        (reduced(SCAN, 4), {**TILED, "subfiletype": 1}),
        (other, TILED),
        (reduced(other, 4), {**TILED, "subfiletype": 1}),
    ]
    with pytest.raises(SlideError, match="holds 2 scanned areas"):
        open_slide(write_pages(tmp_path / "a.tif", pages))


def test_three_sections_are_counted(tmp_path: Path) -> None:
    pages = [scan(), (NEIGHBOUR, TILED), (section(4), TILED)]
    with pytest.raises(SlideError, match="holds 3 scanned areas"):
        open_slide(write_pages(tmp_path / "a.tif", pages))


def test_a_mask_and_a_small_uniform_picture_are_not_areas(tmp_path: Path, read: Read) -> None:
    mask = (np.full((1600, 2400), 255, np.uint8), {**TILED, "photometric": "minisblack"})
    picture = (np.full((300, 400, 3), 235, np.uint8), TILED)
    assert_is(read(write_pages(tmp_path / "a.tif", [scan(), mask, picture])), SCAN)


def test_a_file_of_many_unexplained_pages_is_refused(tmp_path: Path) -> None:
    pages = [scan(), *[(reduced(NEIGHBOUR, 16), TILED)] * 70]
    with pytest.raises(SlideError, match="more than 64 pages that do not say what they are"):
        open_slide(write_pages(tmp_path / "a.tif", pages))


@pytest.mark.parametrize(
    "others",
    [
        [(reduced(NEIGHBOUR, 2), TILED), (reduced(NEIGHBOUR, 10), {**TILED, "subfiletype": 1})],
        [
            (reduced(NEIGHBOUR, 10), {**TILED, "subfiletype": 1}),
            (reduced(SCAN, 10), {**TILED, "subfiletype": 1}),
        ],
    ],
    ids=["of another page", "two of one size"],
)
def test_a_page_that_is_marked_as_reduced_may_be_reduced_from_another_page(
    others: list[Page], tmp_path: Path, read: Read
) -> None:
    path = write_pages(tmp_path / "a.tif", [scan(), *others])
    assert_is(read(path), SCAN)
