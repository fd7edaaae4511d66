"""Formats beyond TIFF have the grid, the pixels, the metadata and the errors of a TIFF."""

import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from dicom_slides import write_dicom_slide
from ndpi_slides import write_ndpi_slide
from numpy.typing import NDArray

from her2d.slides.errors import SlideError, SlideUnavailableError
from her2d.slides.formats.completeness import check_scan
from her2d.slides.formats.parts import scan_files
from her2d.slides.formats.recognition import recognise
from her2d.slides.grid import Tile, UnreadableTile
from her2d.slides.integrity import Completeness, Missing, check_integrity
from her2d.slides.label import label_barcodes
from her2d.slides.levels import open_levels
from her2d.slides.metadata import BarcodeSource, MagnificationSource
from her2d.slides.protocol import Slide
from her2d.slides.reader import open_slide
from her2d.system.extras import installing

Picture = NDArray[np.uint8]
ISCAN = '<iScan Magnification="20" ScanRes="0.5" Barcode2D="V-1"/>'


@pytest.fixture(scope="module")
def image(picture: Callable[..., Picture]) -> Picture:
    return picture(1300, 2720)


def halved(image: Picture) -> Picture:
    height, width = image.shape[:2]
    means = image.reshape(height // 2, 2, width // 2, 2, 3).mean(axis=(1, 3))
    return means.round().astype(np.uint8)


def as_tiff(image: Picture, path: Path) -> Path:
    """Write the picture as the TIFF that her2d reads by itself."""
    description = "Motic V1.0.0\n|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(path) as tiff:
        for level in (image, halved(image)):
            text = description if level is image else None
            tiff.write(level, tile=(256, 256), photometric="rgb", metadata=None, description=text)
    return path


WRITERS: dict[str, Callable[[Path, Picture], Path]] = {
    "DICOM": lambda folder, image: write_dicom_slide(folder / "dicom", [image, halved(image)]),
    "JPEG DICOM": lambda folder, image: write_dicom_slide(
        folder / "dicom", [image, halved(image)], lossless=False
    ),
    "NDPI": lambda folder, image: write_ndpi_slide(folder / "a.ndpi", [image, halved(image)]),
}


@pytest.fixture(params=WRITERS)
def scan(request: pytest.FixtureRequest, tmp_path: Path, image: Picture) -> Path:
    return WRITERS[request.param](tmp_path, image)


def test_it_has_the_grid_and_the_tiles_of_the_same_picture_as_a_tiff(
    scan: Path, image: Picture, tmp_path: Path
) -> None:
    with open_slide(scan) as slide, open_slide(as_tiff(image, tmp_path / "a.tif")) as tiff:
        assert slide.grid == tiff.grid
        # From a level in one JPEG OpenSlide makes smaller ones.
        assert slide.level_dimensions[:2] == tiff.level_dimensions
        assert slide.level_downsamples[:2] == tiff.level_downsamples
        for found, expected in zip(slide.tiles(workers=3), tiff.tiles(), strict=True):
            assert isinstance(found, Tile)
            assert isinstance(expected, Tile)
            assert (found.column, found.row) == (expected.column, expected.row)
            assert np.abs(found.pixels.astype(int) - expected.pixels).mean() < 1


def test_it_states_magnification_resolution_and_vendor(scan: Path) -> None:
    with open_slide(scan) as slide:
        found = slide.metadata
        assert (found.magnification, found.mpp) == (20, 0.5)
        assert (found.width, found.height) == (2720, 1300)
        assert found.vendor == slide.properties["openslide.vendor"]
        assert found.vendor in ("dicom", "hamamatsu")


def test_a_region_is_white_outside_the_scan(scan: Path, image: Picture) -> None:
    with open_slide(scan) as slide:
        region = slide.read_region((-10, -20), 0, (60, 70))
        assert (region[:20] == 255).all()
        assert (region[:, :10] == 255).all()
        assert np.abs(region[20:, 10:].astype(int) - image[:50, :50]).mean() < 3
        below = slide.read_region((200, 100), 1, (64, 64)).astype(int)
        assert np.abs(below - halved(image)[50:114, 100:164]).mean() < 3


def test_a_thumbnail_is_the_mean_of_the_area(scan: Path, image: Picture) -> None:
    with open_slide(scan) as slide:
        small = slide.get_thumbnail((272, 272)).astype(int)
    means = image.reshape(130, 10, 272, 10, 3).mean(axis=(1, 3))
    assert np.abs(small - means).mean() < 1


def test_a_viewer_sees_its_levels(scan: Path, image: Picture) -> None:
    levels = open_levels(scan)
    sizes = [(level.width, level.height) for level in levels.levels]
    assert sizes[:2] == [(2720, 1300), (1360, 650)]
    region = levels.region(0, 1000, 500, 200, 100).astype(int)
    assert np.abs(region - image[500:600, 1000:1200]).mean() < 3


def test_pictures_beside_the_scan_are_read(tmp_path: Path, image: Picture) -> None:
    with open_slide(WRITERS["DICOM"](tmp_path, image)) as slide:
        assert {name: p.shape for name, p in slide.associated_images.items()} == {
            "label": (96, 128, 3)
        }
        # By these the label is known to be small enough to look for a barcode on it.
        assert slide.properties["openslide.associated.label.width"] == "128"
        assert slide.properties["openslide.associated.label.height"] == "96"
        assert label_barcodes(slide) == []
    with open_slide(WRITERS["NDPI"](tmp_path, image)) as slide:
        assert slide.associated_images["macro"].shape == (100, 300, 3)


def test_tiles_are_read_to_their_end_though_the_slide_is_closed(scan: Path) -> None:
    slide = open_slide(scan)
    tiles = slide.tiles()
    assert isinstance(next(tiles), Tile)
    slide.close()
    assert all(isinstance(tile, Tile) for tile in tiles)
    with pytest.raises(ValueError, match="is closed"):
        slide.tiles()
    with pytest.raises(ValueError, match="is closed"):
        slide.read_region((0, 0), 0, (1, 1))


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open(scan: Path) -> None:
    open_slide(scan).close()  # imports the library
    before = open_descriptors()
    with open_slide(scan) as slide:
        tiles = slide.tiles()
        next(tiles)
        tiles.close()
        slide.tiles()  # is never begun
    assert open_descriptors() == before


def test_a_dicom_slide_has_its_barcode(tmp_path: Path, image: Picture) -> None:
    with open_slide(write_dicom_slide(tmp_path / "a", [image], barcode="S26-1 A")) as slide:
        assert slide.metadata.barcode == "S26-1 A"
        assert slide.metadata.barcode_source is BarcodeSource.DESCRIPTION


def test_a_magnification_that_is_not_stated_follows_from_the_resolution(
    tmp_path: Path, image: Picture
) -> None:
    with open_slide(write_dicom_slide(tmp_path / "a", [image], magnification=None)) as slide:
        assert slide.metadata.magnification == 20
        assert slide.metadata.magnification_source is MagnificationSource.MPP


def test_statements_that_contradict_each_other_are_refused(tmp_path: Path, image: Picture) -> None:
    folder = write_dicom_slide(tmp_path / "a", [image], magnification=40, mpp=2.5)
    with pytest.raises(SlideError, match="a contradicts itself"):
        open_slide(folder)


def test_a_grey_slide_of_another_format_is_refused_too(tmp_path: Path, image: Picture) -> None:
    grey = np.repeat(image[..., :1], 3, axis=-1)
    path = write_ndpi_slide(tmp_path / "a.ndpi", [grey, halved(grey)])
    with open_slide(path) as slide, pytest.raises(SlideError, match="all of its pixels are grey"):
        list(slide.tiles())


def test_a_slide_that_is_coarser_than_4x_is_refused(tmp_path: Path, image: Picture) -> None:
    path = write_ndpi_slide(tmp_path / "a.ndpi", [image], magnification=2, mpp=5)
    with pytest.raises(SlideError, match="coarser than the 4x"):
        open_slide(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"samples": 1}, "has no bright-field colour"),
        ({"mpp": None}, "has no PixelSpacing"),
        ({"focal_planes": 3}, "has several focal planes"),
    ],
)
def test_a_dicom_slide_of_which_one_picture_would_be_a_guess_is_refused(
    change: dict[str, Any], reason: str, tmp_path: Path, image: Picture
) -> None:
    folder = write_dicom_slide(tmp_path / "a", [image[:512, :512]], **change)
    with pytest.raises(SlideError, match=reason):
        open_slide(folder)


def test_two_dicom_slides_in_one_folder_are_refused(tmp_path: Path, image: Picture) -> None:
    write_dicom_slide(tmp_path / "a", [image], name="first")
    write_dicom_slide(tmp_path / "a", [image], name="second")
    with pytest.raises(SlideError, match="a holds 2 DICOM slides; give each a folder for itself"):
        open_slide(tmp_path / "a")


def test_one_file_of_a_dicom_slide_is_not_taken_for_the_slide(
    tmp_path: Path, image: Picture
) -> None:
    folder = write_dicom_slide(tmp_path / "a", [image, halved(image)])
    with pytest.raises(
        SlideError, match=r"slide-1\.dcm is one file of a DICOM slide; name the fol"
    ):
        open_slide(folder / "slide-1.dcm")


def test_a_dicom_level_that_is_cut_short_loses_its_tiles_only(
    tmp_path: Path, image: Picture
) -> None:
    folder = write_dicom_slide(tmp_path / "a", [image])
    level = folder / "slide-0.dcm"
    with level.open("r+b") as file:
        file.truncate(level.stat().st_size // 2)
    with open_slide(folder) as slide:
        tiles = list(slide.tiles())
    assert len(tiles) == slide.grid.columns * slide.grid.rows
    lost = [tile for tile in tiles if isinstance(tile, UnreadableTile)]
    assert lost
    assert all("cannot be decoded" in tile.reason for tile in lost)


def test_damage_in_one_part_of_an_ndpi_slide_leaves_the_other_parts(
    tmp_path: Path, image: Picture
) -> None:
    """After an error OpenSlide refuses every later call, of which nothing is to be seen here."""
    path = write_ndpi_slide(tmp_path / "a.ndpi", [image, halved(image)])
    good = path.read_bytes()
    start = good.index(b"\xff\xd8\xff")  # of the JPEG of level 0
    with open_slide(path) as slide:
        path.write_bytes(good[: start + 9_000] + bytes(90_000) + good[start + 99_000 :])
        with pytest.raises(SlideError, match=r"a\.ndpi cannot be read: the region from 1500,700 "):
            slide.read_region((1500, 700), 0, (64, 64))
        assert slide.read_region((1500, 700), 1, (64, 64)).std() > 1
        assert all(isinstance(tile, Tile) for tile in slide.tiles())


def test_a_ventana_slide_is_joined_by_openslide(tmp_path: Path, image: Picture) -> None:
    path = tmp_path / "a.bif"
    write_ventana_slide(path, image)
    with open_slide(path) as slide:
        assert (slide.metadata.vendor, slide.metadata.magnification) == ("ventana", 20)
        width, height = slide.dimensions
        joined = slide.read_region((0, 0), 0, (width, height))[: image.shape[0], : image.shape[1]]
    shown = image[: joined.shape[0], : joined.shape[1]].astype(int)
    assert np.abs(joined - shown).mean() < 1


def write_ventana_slide(path: Path, image: Picture) -> None:
    """Write a slide whose tiles of 256 pixels overlap by 64, as Ventana's iScan stores them."""
    tile, overlap = 256, 64
    step = tile - overlap
    columns = (image.shape[1] - overlap) // step
    rows = (image.shape[0] - overlap) // step
    stored = np.concatenate(
        [
            np.concatenate(
                [
                    image[y * step : y * step + tile, x * step : x * step + tile]
                    for x in range(columns)
                ],
                axis=1,
            )
            for y in range(rows)
        ]
    )

    def number(column: int, row: int) -> int:
        """Tiles are counted from below, to and fro."""
        row = rows - 1 - row
        return row * columns + (columns - 1 - column if row % 2 else column) + 1

    def joint(direction: str, one: int, other: int, x: int, y: int) -> str:
        return (
            f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="{direction}" Tile1="{one}"'
            f' Tile2="{other}" OverlapX="{x}" OverlapY="{y}"/>'
        )

    joints = [
        joint("RIGHT", number(x, y), number(x + 1, y), overlap, 0)
        for y in range(rows)
        for x in range(columns - 1)
    ] + [
        joint("UP", number(x, y + 1), number(x, y), 0, overlap)
        for y in range(rows - 1)
        for x in range(columns)
    ]
    area = (
        f'<EncodeInfo Ver="2"><SlideInfo><AoiInfo XIMAGESIZE="{tile}" YIMAGESIZE="{tile}"'
        f' NumRows="{rows}" NumCols="{columns}" Pos-X="0" Pos-Y="0"/></SlideInfo>'
        f'<SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" NumRows="{rows}"'
        f' NumCols="{columns}" Width="{tile}" Height="{tile}" Pos-X="0" Pos-Y="0">'
        f"{''.join(joints)}</ImageInfo></SlideStitchInfo>"
        '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
    label = np.full((96, 128, 3), 200, np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for pixels, text, xmp, options in (
            (label, "Label Image", ISCAN, {}),
            (stored, "level=0 mag=20 quality=90", area, {"tile": (tile, tile)}),
        ):
            tags = [(700, 1, len(xmp), xmp.encode(), True)]
            tiff.write(
                pixels,
                photometric="rgb",
                compression="zlib",
                metadata=None,
                description=text,
                extratags=tags,
                **options,
            )


@pytest.mark.usefixtures("without_libraries")
@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.czi", b"ZISRAWFILE" + bytes(200), "is a Zeiss CZI slide, which OpenSlide reads"),
        ("a.mrxs", b"\xff\xd8\xff\xe0", "is a MIRAX slide, which OpenSlide reads"),
        ("a.vms", b"[Virtual Microscope Specimen]\r\n", "is a Hamamatsu VMS slide, which OpenSl"),
    ],
)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    name: str, content: bytes, what: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError) as refused:
        open_slide(tmp_path / name)
    assert str(refused.value).startswith(f"{name} {what}")
    assert str(refused.value).endswith(f"; install it with {installing('formats')}")


@pytest.mark.usefixtures("without_libraries")
def test_a_dicom_slide_without_wsidicom_names_it(tmp_path: Path, image: Picture) -> None:
    folder = write_dicom_slide(tmp_path / "a", [image[:512, :512]])
    with pytest.raises(SlideError, match="a is a DICOM slide, which wsidicom reads; install it w"):
        open_slide(folder)


@pytest.mark.usefixtures("without_libraries")
def test_an_ndpi_slide_is_read_as_a_tiff_where_openslide_is_missing(
    tmp_path: Path, image: Picture
) -> None:
    path = write_ndpi_slide(tmp_path / "a.ndpi", [image, halved(image)])
    with open_slide(path) as slide:
        assert all(isinstance(tile, Tile) for tile in slide.tiles())


@pytest.mark.parametrize("name", ["a.mds", "a.mdsx"])
def test_motics_own_formats_are_named_as_such(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512))
    with pytest.raises(SlideError) as refused:
        open_slide(tmp_path / name)
    assert str(refused.value) == (
        f"{name} is a slide in Motic's own format {name[2:].upper()}, which no open library reads;"
        " export it as TIFF with Motic's software"
    )


def test_a_mirax_file_without_its_folder_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    with pytest.raises(SlideError, match=r"are in a folder a with Slidedat\.ini; copy both"):
        open_slide(tmp_path / "a.mrxs")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.czi", b"ZISRAWFILE" + bytes(2000)),
        ("a.vms", b"[Virtual Microscope Specimen]\r\nNoLayers=1\r\n"),
        ("a.ndpi", struct.pack("<4sI", b"II*\0", 8) + b"\xff" * 400),
        ("a.svslide", b"SQLite format 3\0" + bytes(4000)),
    ],
)
def test_a_file_that_only_begins_like_a_slide_is_refused(
    name: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SlideError, match=name):
        open_slide(tmp_path / name)


def test_a_folder_without_dicom_files_is_not_a_slide(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    sqlite3.connect(tmp_path / "her2d.sqlite").close()
    assert recognise(tmp_path) is None
    with pytest.raises(SlideError, match="is not a regular file"):
        open_slide(tmp_path)


def test_a_slide_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(SlideUnavailableError):
        open_slide(tmp_path / "a.ndpi")


def test_a_slide_is_a_slide_whichever_library_reads_it(scan: Path) -> None:
    slide: Slide = open_slide(scan)
    slide.close()
    assert slide.path == scan


def test_a_scan_of_one_file_is_complete_when_its_library_opens_it(
    tmp_path: Path, image: Picture
) -> None:
    path = write_ndpi_slide(tmp_path / "a.ndpi", [image, halved(image)])
    assert check_scan(path).completeness is Completeness.COMPLETE
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size // 2)  # its directories lie behind the pixels
    found = check_scan(path)
    assert (found.completeness, found.missing) == (Completeness.INCOMPLETE, Missing.DIRECTORIES)


def test_a_tiff_is_checked_as_a_tiff(tmp_path: Path, image: Picture) -> None:
    path = as_tiff(image, tmp_path / "a.tif")
    assert check_scan(path) == check_integrity(path)
    path.write_bytes(path.read_bytes()[:-5000])
    assert check_scan(path) == check_integrity(path)
    assert check_scan(tmp_path / "gone.tif") == check_integrity(tmp_path / "gone.tif")


def test_a_scan_of_several_files_is_not_taken_from_an_inbox(tmp_path: Path, image: Picture) -> None:
    folder = write_dicom_slide(tmp_path / "a", [image[:512, :512]])
    found = check_scan(folder / "slide-0.dcm")
    assert found.completeness is Completeness.BROKEN
    assert found.reason is not None
    assert found.reason.endswith("are taken from an inbox; score it with `her2d scan`")


@pytest.mark.usefixtures("without_libraries")
def test_a_file_whose_library_is_missing_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE" + bytes(200))
    found = check_scan(tmp_path / "a.czi")
    assert found.completeness is Completeness.BROKEN
    assert found.reason is not None
    assert "pip install 'her2d[formats]'" in found.reason


def test_all_files_of_a_scan_are_found(tmp_path: Path, image: Picture) -> None:
    folder = write_dicom_slide(tmp_path / "dicom", [image[:512, :512]])
    (folder / "notes.txt").write_text("not an instance")
    assert [file.name for file in scan_files(folder)] == ["slide-0.dcm", "slide-label.dcm"]
    (tmp_path / "a.mrxs").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "Slidedat.ini").write_text("[GENERAL]")
    found = scan_files(tmp_path / "a.mrxs")
    assert found == [tmp_path / "a.mrxs", tmp_path / "a" / "Slidedat.ini"]
    (tmp_path / "b.vms").write_text(
        "[Virtual Microscope Specimen]\r\nImageFile=b.jpg\r\nMacroImage=../secret\r\n"
    )
    (tmp_path / "b.jpg").write_bytes(b"x")
    (tmp_path.parent / "secret").write_bytes(b"x")
    assert scan_files(tmp_path / "b.vms") == [tmp_path / "b.vms", tmp_path / "b.jpg"]
    assert scan_files(tmp_path / "b.jpg") == [tmp_path / "b.jpg"]


@pytest.mark.parametrize("kept", [4, 7, 8, 11, 12, 15])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_tiff_of_which_only_the_beginning_is_there_is_refused(image, tmp_path, kept, bigtiff):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, image, bigtiff=bigtiff)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SlideError):
        open_slide(path)
