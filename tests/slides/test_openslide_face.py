"""`Slide` under the names of OpenSlide's Python API, compared with tifffile's own decoding."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from her2d.simulator.motic import write_he_slide
from her2d.simulator.plan import plan_slide
from her2d.slides import openslide_names
from her2d.slides import slide as slide_module
from her2d.slides.blocks import Blocks
from her2d.slides.errors import SlideError, SlideUnavailableError
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]


@pytest.fixture(
    scope="module",
    params=[pytest.param(4.0, id="4x"), pytest.param(40.0, id="40x", marks=pytest.mark.slow)],
)
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated slide with a pyramid of at least two levels, thumbnail, label and macro."""
    magnification: float = request.param
    size = (2300, 1700) if magnification == 4.0 else (600, 520)
    plan = plan_slide(
        "a",
        3,
        her2_status="positive",
        width=size[0],
        height=size[1],
        magnification=magnification,
    )
    path = tmp_path_factory.mktemp("simulated") / "a.tif"
    write_he_slide(plan, path)
    return path


def pages_of(path: Path) -> list[Picture]:
    """All images of the file as tifffile decodes them."""
    with tifffile.TiffFile(path) as tiff:
        return [np.asarray(page.asarray(), np.uint8) for page in tiff.pages]


def level_pages(path: Path) -> list[Picture]:
    """The tiled images of the file, finest first."""
    with tifffile.TiffFile(path) as tiff:
        tiled = [np.asarray(page.asarray(), np.uint8) for page in tiff.pages if page.is_tiled]
    return sorted(tiled, key=lambda pixels: -pixels.size)


def cut_out(whole: Picture, x: int, y: int, width: int, height: int) -> Picture:
    """A rectangle of a picture, white where it reaches outside."""
    found = np.full((height, width, 3), 255, np.uint8)
    for row in range(max(y, 0), min(y + height, whole.shape[0])):
        left, right = max(x, 0), min(x + width, whole.shape[1])
        if left < right:
            found[row - y, left - x : right - x] = whole[row, left:right]
    return found


def test_every_level_is_as_tifffile_decodes_it(simulated: Path) -> None:
    expected = level_pages(simulated)
    with open_slide(simulated) as slide:
        assert slide.level_count == len(expected) > 1
        assert slide.dimensions == slide.level_dimensions[0]
        for number, pixels in enumerate(expected):
            height, width = pixels.shape[:2]
            assert slide.level_dimensions[number] == (width, height)
            found = slide.read_region((0, 0), number, (width, height))
            assert (found.dtype, found.shape) == (np.uint8, (height, width, 3))
            np.testing.assert_array_equal(found, pixels)


def test_a_real_scan_is_as_tifffile_decodes_it(cmu: Path) -> None:
    with open_slide(cmu) as slide:
        assert (slide.dimensions, slide.level_count) == ((2220, 2967), 1)
        found = slide.read_region((0, 0), 0, slide.dimensions)
    np.testing.assert_array_equal(found, pages_of(cmu)[0])


@pytest.mark.parametrize("level", [0, 1])
@pytest.mark.parametrize(
    ("x", "y"),
    [(0, 0), (500, 500), (-30, -20), (-300, 0), (100_000, 0), (0, -100_000), ("end", "end")],
)
def test_what_lies_outside_the_scan_is_white(
    level: int, x: int | str, y: int | str, simulated: Path
) -> None:
    whole = level_pages(simulated)[level]
    with open_slide(simulated) as slide:
        downsample = round(slide.level_downsamples[level])
        x = whole.shape[1] - 40 if isinstance(x, str) else x
        y = whole.shape[0] - 30 if isinstance(y, str) else y
        found = slide.read_region((x * downsample, y * downsample), level, (100, 70))
    np.testing.assert_array_equal(found, cut_out(whole, x, y, 100, 70))


@given(data=st.data())
def test_a_region_read_in_two_halves_is_the_region_read_in_one(
    data: st.DataObject, simulated: Path
) -> None:
    with open_slide(simulated) as slide:
        level = data.draw(st.integers(0, slide.level_count - 1), "level")
        width, height = slide.level_dimensions[level]
        step = slide.level_downsamples[level]
        assert step == int(step)
        x = data.draw(st.integers(-50, width + 50), "x") * int(step)
        y = data.draw(st.integers(-50, height + 50), "y") * int(step)
        size = data.draw(st.tuples(st.integers(1, 600), st.integers(1, 600)), "size")
        first = data.draw(st.integers(0, size[0]), "width of the first half")
        whole = slide.read_region((x, y), level, size)
        left = slide.read_region((x, y), level, (first, size[1]))
        right = slide.read_region((x + first * int(step), y), level, (size[0] - first, size[1]))
    np.testing.assert_array_equal(np.concatenate([left, right], axis=1), whole)


@given(data=st.data())
def test_locations_between_pixels_are_brought_to_the_nearest(
    data: st.DataObject, simulated: Path
) -> None:
    with open_slide(simulated) as slide:
        level = slide.level_count - 1
        step = round(slide.level_downsamples[level])
        column = data.draw(st.integers(0, slide.level_dimensions[level][0] - 20))
        off = data.draw(st.integers(-(step // 2), (step - 1) // 2))
        found = slide.read_region((column * step + off, 0), level, (20, 5))
        np.testing.assert_array_equal(found, slide.read_region((column * step, 0), level, (20, 5)))


def test_a_region_without_pixels_is_empty(cmu: Path) -> None:
    with open_slide(cmu) as slide:
        assert slide.read_region((0, 0), 0, (0, 7)).shape == (7, 0, 3)


@pytest.mark.parametrize(
    ("level", "size", "reason"),
    [
        (1, (5, 5), "has no level 1; its last level is 0"),
        (-1, (5, 5), "has no level -1"),
        (0, (-5, 5), "negative size"),
    ],
)
def test_impossible_regions_are_refused(
    level: int, size: tuple[int, int], reason: str, cmu: Path
) -> None:
    with open_slide(cmu) as slide, pytest.raises(ValueError, match=reason):
        slide.read_region((0, 0), level, size)


@pytest.mark.parametrize(
    ("downsample", "level"), [(0.5, 0), (1, 0), (1.9, 0), (2, 1), (3.99, 1), (4, 2), (1000, 2)]
)
def test_the_best_level_is_the_coarsest_that_is_fine_enough(
    downsample: float, level: int, tmp_path: Path
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for side in (1024, 512, 256):
            tiff.write(
                np.zeros((side, side, 3), np.uint8),
                tile=(256, 256),
                photometric="rgb",
                description="AppMag = 4",
                metadata=None,
            )
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.level_downsamples == (1.0, 2.0, 4.0)
        assert slide.get_best_level_for_downsample(downsample) == level


def test_an_aperio_scan_has_openslides_properties(cmu: Path) -> None:
    with open_slide(cmu) as slide:
        properties = slide.properties
    expected = {
        "openslide.vendor": "aperio",
        "openslide.objective-power": "20",
        "openslide.mpp-x": "0.499",
        "openslide.mpp-y": "0.499",
        "openslide.level-count": "1",
        "openslide.level[0].width": "2220",
        "openslide.level[0].height": "2967",
        "openslide.level[0].downsample": "1",
        "openslide.level[0].tile-width": "240",
        "openslide.level[0].tile-height": "240",
        "openslide.associated.label.width": "387",
        "openslide.associated.macro.height": "431",
        "openslide.associated.thumbnail.width": "574",
        "aperio.AppMag": "20",
        "aperio.MPP": "0.4990",
        "aperio.ScanScope ID": "CPAPERIOCS",
        "aperio.Filename": "CMU-1",
    }
    assert {name: properties.get(name) for name in expected} == expected
    assert properties["openslide.comment"].startswith("Aperio Image Library v11.2.1")
    assert all(isinstance(value, str) for value in properties.values())
    with pytest.raises(TypeError):
        properties["openslide.vendor"] = "other"  # type: ignore[index]


def test_a_motic_scan_has_its_own_properties(simulated: Path) -> None:
    with open_slide(simulated) as slide:
        properties, metadata = slide.properties, slide.metadata
    assert properties["openslide.vendor"] == "motic"
    assert properties["motic.Barcode"] == metadata.barcode
    assert properties["motic.AppMag"] == f"{metadata.magnification:g}"
    assert properties["motic.BackgroundColor"] == "16514557"
    assert properties["openslide.level[1].downsample"] == "2"


def test_a_scan_without_mpp_has_no_mpp_property(write: Callable[..., Path]) -> None:
    path = write(np.zeros((600, 600, 3), np.uint8), description="AppMag = 4")
    with open_slide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert "openslide.mpp-x" not in slide.properties
        assert "openslide.level[0].tile-width" not in slide.properties  # strips
        assert not slide.associated_images


def assert_pictures_are_as_tifffile_decodes_them(path: Path) -> None:
    with tifffile.TiffFile(path) as tiff:
        pages = [page for page in tiff.pages if not page.is_tiled]
        second_lines = [page.description.splitlines()[1] for page in pages]
        expected = {
            "thumbnail" if "->" in line else line.split()[0]: page.asarray()
            for line, page in zip(second_lines, pages, strict=True)
        }
    with open_slide(path) as slide:
        assert set(slide.associated_images) == set(expected) == {"thumbnail", "label", "macro"}
        assert len(slide.associated_images) == 3
        for name, pixels in slide.associated_images.items():
            np.testing.assert_array_equal(pixels, expected[name])
        with pytest.raises(KeyError):
            slide.associated_images["map"]


def test_the_pictures_beside_a_simulated_pyramid_are_as_tifffile_decodes_them(
    simulated: Path,
) -> None:
    assert_pictures_are_as_tifffile_decodes_them(simulated)


def test_the_pictures_beside_a_real_scan_are_as_tifffile_decodes_them(cmu: Path) -> None:
    assert_pictures_are_as_tifffile_decodes_them(cmu)


def test_pictures_beside_the_pyramid_are_decoded_when_asked_for(
    cmu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Blocks.read
    reads: list[tuple[int, int]] = []

    def counted(self: Blocks, fd: int, column: int, row: int) -> Picture:
        reads.append((column, row))
        return read(self, fd, column, row)

    monkeypatch.setattr(Blocks, "read", counted)
    with open_slide(cmu) as slide:
        assert "label" in slide.associated_images
        assert not reads
        assert slide.associated_images["label"].shape == (463, 387, 3)
        assert reads


def test_an_associated_image_larger_than_any_photograph_is_refused(
    cmu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openslide_names, "_MAX_ASSOCIATED_PIXELS", 2**19)
    with open_slide(cmu) as slide:
        assert slide.associated_images["label"].size
        with pytest.raises(SlideError, match="has a macro of 1280 x 431 pixels, over the limit"):
            slide.associated_images["macro"]


@pytest.mark.parametrize("size", [(200, 200), (64, 500), (10_000, 10_000)])
def test_a_thumbnail_keeps_the_aspect_and_averages(size: tuple[int, int], cmu: Path) -> None:
    whole = pages_of(cmu)[0].astype(float)
    with open_slide(cmu) as slide:
        small = slide.get_thumbnail(size)
    height, width = small.shape[:2]
    assert width <= size[0]
    assert height <= size[1]
    assert width / height == pytest.approx(2220 / 2967, rel=0.02)
    assert width in (size[0], 2220) or height == size[1]
    assert small.mean() == pytest.approx(whole.mean(), abs=1)
    if width == 2220:
        np.testing.assert_array_equal(small, whole)


def test_a_thumbnails_pixels_are_means_of_areas(
    write: Callable[..., Path], picture: Callable[..., Picture]
) -> None:
    image = picture(800, 1200)
    with open_slide(write(image, tile=(240, 240), compression="zlib")) as slide:
        small = slide.get_thumbnail((300, 300))
    expected = image.reshape(200, 4, 300, 4, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(small, expected, atol=0.501)


def test_a_thumbnail_must_have_pixels(cmu: Path) -> None:
    with open_slide(cmu) as slide, pytest.raises(ValueError, match="no pixels"):
        slide.get_thumbnail((0, 10))


def damage_block(path: Path, index: int) -> None:
    """Overwrite the first bytes of one block of the first image."""
    with tifffile.TiffFile(path) as tiff:
        at = tiff.pages[0].dataoffsets[index]
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 16)


def test_a_damaged_block_is_named_and_others_are_read(
    write: Callable[..., Path], picture: Callable[..., Picture]
) -> None:
    image = picture(600, 700)
    path = write(image, tile=(256, 256), compression="zlib")
    damage_block(path, 4)
    with open_slide(path) as slide:
        with pytest.raises(SlideError) as caught:
            slide.read_region((250, 250), 0, (10, 10))
        assert str(caught.value).startswith(
            "scan.tif cannot be read: block 1,1 of level 0 cannot be decoded: "
        )
        with pytest.raises(SlideError, match="block 1,1 of level 0"):
            slide.get_thumbnail((100, 100))
        np.testing.assert_array_equal(slide.read_region((0, 0), 0, (256, 256)), image[:256, :256])


def test_a_level_that_cannot_be_decoded_does_not_prevent_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        for side, compression in ((1024, "zlib"), (512, "packbits")):
            image = np.full((side, side, 3), 90, np.uint8)
            tiff.write(image, compression=compression, description="AppMag = 4", **options)
            options["subfiletype"] = 1
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[1].tags[259].overwrite(9)  # JBIG, which nothing here decodes
    with open_slide(path) as slide:
        assert slide.level_count == 2
        assert (slide.read_region((0, 0), 0, (20, 20)) == 90).all()
        with pytest.raises(SlideError, match=r"a\.tif has pixels compressed in a way"):
            slide.read_region((0, 0), 1, (20, 20))


def test_storage_that_fails_is_not_the_slides_fault(
    cmu: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(fd: int, size: int, offset: int) -> bytes:
        raise OSError(116, "Stale file handle")

    with open_slide(cmu) as slide:
        monkeypatch.setattr(os, "pread", failing)
        with pytest.raises(SlideUnavailableError, match="block 0,0 of level 0: Stale file handle"):
            slide.read_region((0, 0), 0, (20, 20))


def test_a_closed_slide_is_not_read(cmu: Path) -> None:
    with open_slide(cmu) as slide:
        pass
    for read in (
        lambda: slide.read_region((0, 0), 0, (5, 5)),
        lambda: slide.get_thumbnail((5, 5)),
        lambda: slide.associated_images["label"],
    ):
        with pytest.raises(ValueError, match="is closed"):
            read()
    assert slide.dimensions == (2220, 2967)


def test_blocks_read_lately_are_not_decoded_again_and_few_are_kept(
    write: Callable[..., Path], picture: Callable[..., Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Blocks.read
    reads: list[tuple[int, int]] = []

    def counted(self: Blocks, fd: int, column: int, row: int) -> Picture:
        reads.append((column, row))
        return read(self, fd, column, row)

    monkeypatch.setattr(Blocks, "read", counted)
    monkeypatch.setattr(slide_module, "CACHE_BYTES", 3 * 256 * 256 * 3)
    path = write(picture(1024, 1024), tile=(256, 256), compression="zlib")
    with open_slide(path) as slide:
        for _ in range(2):
            slide.read_region((0, 0), 0, (700, 200))
        assert reads == [(0, 0), (1, 0), (2, 0)]
        slide.read_region((800, 0), 0, (10, 10))  # the fourth; the first is dropped
        slide.read_region((300, 0), 0, (10, 10))
        assert reads[3:] == [(3, 0)]
        slide.read_region((0, 0), 0, (10, 10))
        assert reads[4:] == [(0, 0)]


def test_the_host_programs_own_use_of_tifffile_logs_as_before(
    cmu: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tifffile")  # a command before may have raised it
    logger = logging.getLogger("tifffile")
    level, filters = logger.level, list(logger.filters)
    with open_slide(cmu) as slide:
        slide.associated_images["label"]
    assert (logger.level, logger.filters) == (level, filters)
    logger.warning("an oddity")
    assert "an oddity" in caplog.text


def test_an_icc_profile_is_recorded_and_not_applied(
    picture: Callable[..., Picture], tmp_path: Path
) -> None:
    path, image = tmp_path / "a.tif", picture()
    profile = imagecodecs.cms_profile("adobergb")
    tifffile.imwrite(
        path,
        image,
        tile=(256, 256),
        photometric="rgb",
        metadata=None,
        description="AppMag = 4",
        iccprofile=profile,
    )
    with open_slide(path) as slide:
        assert slide.properties["openslide.icc-size"] == str(len(profile))
        np.testing.assert_array_equal(slide.read_region((0, 0), 0, (1100, 700)), image)


def test_a_scan_without_an_icc_profile_records_none(simulated: Path) -> None:
    with open_slide(simulated) as slide:
        assert "openslide.icc-size" not in slide.properties
