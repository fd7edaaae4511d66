"""Files of several images: areas of the glass, focal planes, and macros beside the scan."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.reader import open_slide
from tests.slides.tissue import out_of_focus, reduced, section

Picture = NDArray[np.uint8]
Read = Callable[..., Picture]

TILED = {"tile": (256, 256), "compression": "zlib", "photometric": "rgb", "metadata": None}
SCAN, NEIGHBOUR = section(1), section(2)
OME = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
SCN = "http://www.leica-microsystems.com/scn/2010/10/01"
# The second of three planes is in focus.
BLURS = (12.0, 0.0, 6.0)
PLANES = [out_of_focus(SCAN, blur) if blur else SCAN for blur in BLURS]


def ome_image(
    picture: Picture,
    page: int,
    size_um: tuple[float, float] | None = (0.25, 0.25),
    *,
    name: str = "",
    planes: int = 1,
) -> str:
    height, width = picture.shape[:2]
    sizes = "" if size_um is None else "PhysicalSizeX='{}' PhysicalSizeY='{}'".format(*size_um)
    return (
        f"<Image ID='Image:{page}' Name='{name}'><Pixels ID='Pixels:{page}' "
        f"DimensionOrder='XYCZT' Type='uint8' SizeX='{width}' SizeY='{height}' SizeC='3' "
        f"SizeZ='{planes}' SizeT='1' {sizes}><Channel ID='Channel:{page}:0' SamplesPerPixel='3'/>"
        f"<TiffData IFD='{page}' PlaneCount='{planes}'/></Pixels></Image>"
    )


def write_ome(
    path: Path, pictures: Sequence[Picture], images: Sequence[str], factors: Sequence[int] = ()
) -> Path:
    text = f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{OME}">{"".join(images)}</OME>'
    with tifffile.TiffWriter(path) as tiff:
        for number, picture in enumerate(pictures):
            description = {"description": text.encode()} if number == 0 else {}
            tiff.write(picture, **TILED, **description, subifds=len(factors) or None)
            for factor in factors:
                tiff.write(reduced(picture, factor), **TILED, subfiletype=1)
    return path


def scn_image(picture: Picture, page: int, *, offset: int = 0, view: str = "", z: int = 1) -> str:
    height, width = picture.shape[:2]
    at = "".join(
        f'<dimension sizeX="{width}" sizeY="{height}" r="0" z="{plane}" ifd="{page + plane}"/>'
        for plane in range(z)
    )
    nanometres = view or f'sizeX="{width * 250}" sizeY="{height * 250}"'
    return (
        f'<image name="i"><pixels sizeX="{width}" sizeY="{height}">{at}</pixels>'
        f'<view {nanometres} offsetX="{offset}" offsetY="0"/><scanSettings><objectiveSettings>'
        f"<objective>{'0.6' if view else '40'}</objective></objectiveSettings>"
        "<illuminationSettings><illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings></image>"
    )


WHOLE_GLASS = 'sizeX="26000000" sizeY="76000000"'


def write_scn(path: Path, pictures: Sequence[Picture], images: Sequence[str]) -> Path:
    text = (
        f'<?xml version="1.0"?><scn xmlns="{SCN}"><collection name="c" barcode="UzEyLTM0NQ==" '
        f"{WHOLE_GLASS}>{''.join(images)}</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, picture in enumerate(pictures):
            tiff.write(picture, **TILED, **({"description": text} if number == 0 else {}))
    return path


def assert_is(found: Picture, picture: Picture) -> None:
    np.testing.assert_allclose(found, reduced(picture, 10), atol=1)


MACRO = section(5, height=700, width=250)


@pytest.mark.parametrize("um", [0.05, 10.0, None], ids=["finer", "coarser", "unstated"])
def test_the_scale_is_that_of_the_ome_image_that_is_read(
    um: float | None, tmp_path: Path, read: Read
) -> None:
    macro = ome_image(MACRO, 0, None if um is None else (um, um))
    path = write_ome(tmp_path / "a.tif", [MACRO, SCAN], [macro, ome_image(SCAN, 1)])
    assert_is(read(path), SCAN)
    with open_slide(path) as slide:
        assert slide.metadata.mpp == 0.25
        assert (slide.metadata.width, slide.metadata.height) == (2400, 1600)


def test_a_smaller_copy_of_the_scan_is_no_area(tmp_path: Path, read: Read) -> None:
    small = reduced(SCAN, 2)
    images = [ome_image(small, 0, (0.5, 0.5)), ome_image(SCAN, 1)]
    assert_is(read(write_ome(tmp_path / "a.tif", [small, SCAN], images)), SCAN)


def test_where_the_ome_pages_are_not_stated_the_size_tells(tmp_path: Path, read: Read) -> None:
    images = [ome_image(MACRO, 0, (9.0, 9.0)), ome_image(SCAN, 0)]
    unstated = [image.replace("<TiffData IFD='0' PlaneCount='1'/>", "") for image in images]
    assert_is(read(write_ome(tmp_path / "a.tif", [MACRO, SCAN], unstated)), SCAN)


def test_named_pictures_of_the_glass_are_no_areas(tmp_path: Path, read: Read) -> None:
    label = section(6, height=1500, width=1500)
    images = [
        ome_image(SCAN, 0),
        ome_image(label, 1, name="label image"),
        ome_image(MACRO, 2, name="S12-345 [macro image]"),
    ]
    path = write_ome(tmp_path / "a.tif", [SCAN, label, MACRO], images)
    assert_is(read(path), SCAN)
    with open_slide(path) as slide:
        assert set(slide.associated_images) == {"label", "macro"}
        np.testing.assert_array_equal(slide.associated_images["label"], label)


@pytest.mark.parametrize("size_um", [(0.25, 0.125), (0.25, 0.30)])
def test_pixels_that_are_not_square_are_refused(
    size_um: tuple[float, float], tmp_path: Path
) -> None:
    path = write_ome(tmp_path / "a.tif", [SCAN], [ome_image(SCAN, 0, size_um)])
    with pytest.raises(SlideError, match=r"has pixels of 0\.25 x 0\.\d+ um; only a scan of square"):
        open_slide(path)


def test_levels_come_from_the_subifds_of_the_image_that_is_read(tmp_path: Path) -> None:
    images = [ome_image(MACRO, 0, (9.0, 9.0)), ome_image(SCAN, 1)]
    path = write_ome(tmp_path / "a.tif", [MACRO, SCAN], images, factors=(2, 4))
    with open_slide(path) as slide:
        assert slide.level_dimensions == ((2400, 1600), (1200, 800), (600, 400))


@pytest.mark.parametrize("other", [NEIGHBOUR, section(7, height=900, width=700)])
@pytest.mark.parametrize("size_um", [(0.25, 0.25), None])
def test_two_ome_areas_are_refused(
    other: Picture, size_um: tuple[float, float] | None, tmp_path: Path
) -> None:
    images = [ome_image(SCAN, 0, size_um), ome_image(other, 1, size_um)]
    path = write_ome(tmp_path / "a.tif", [SCAN, other], images, factors=(2,))
    with pytest.raises(SlideError, match="holds 2 scanned areas") as caught:
        open_slide(path, assume_magnification=40)
    assert caught.value.code == "several_areas"


def test_a_small_ome_area_of_the_same_scale_is_an_area(tmp_path: Path) -> None:
    other = section(7, height=300, width=300)
    images = [ome_image(SCAN, 0), ome_image(other, 1)]
    with pytest.raises(SlideError, match="holds 2 scanned areas"):
        open_slide(write_ome(tmp_path / "a.tif", [SCAN, other], images))


@pytest.mark.parametrize("side", [180, 300])
@pytest.mark.slow
def test_an_ome_area_is_an_area_however_small_if_it_shows_tissue(side: int, tmp_path: Path) -> None:
    scan = section(1, height=2400, width=3600)
    other = section(7, height=side, width=side + 200)
    images = [ome_image(scan, 0), ome_image(other, 1)]
    with pytest.raises(SlideError, match="holds 2 scanned areas"):
        open_slide(write_ome(tmp_path / "a.tif", [scan, other], images))


@pytest.mark.parametrize("um", [8.0, None], ids=["coarser", "unstated"])
def test_an_unnamed_macro_in_ome_is_said_to_be_unread(um: float | None, tmp_path: Path) -> None:
    macro = np.full((180, 520, 3), 176, np.uint8)
    macro[:20] = 20
    size_um = None if um is None else (um, um)
    images = [ome_image(SCAN, 0), ome_image(macro, 1, size_um)]
    with open_slide(write_ome(tmp_path / "a.tif", [SCAN, macro], images)) as slide:
        said = "1 further picture of 520 x 180 was not read"
        assert slide.metadata.unread_pictures == said


def test_one_leica_area_is_read_beside_its_macro(tmp_path: Path, read: Read) -> None:
    images = [scn_image(MACRO, 0, view=WHOLE_GLASS), scn_image(SCAN, 1, offset=4_000_000)]
    path = write_scn(tmp_path / "a.scn", [MACRO, SCAN], images)
    assert_is(read(path), SCAN)
    with open_slide(path) as slide:
        metadata = slide.metadata
        assert (metadata.vendor, metadata.magnification, metadata.mpp) == ("leica", 40.0, 0.25)
        assert metadata.barcode == "S12-345"
        assert list(slide.associated_images) == ["macro"]


@pytest.mark.parametrize("other", [NEIGHBOUR, section(7, height=200, width=300)])
def test_two_leica_areas_are_refused(other: Picture, tmp_path: Path) -> None:
    images = [
        scn_image(MACRO, 0, view=WHOLE_GLASS),
        scn_image(SCAN, 1),
        scn_image(other, 2, offset=9_000_000),
    ]
    with pytest.raises(SlideError, match="holds 2 scanned areas"):
        open_slide(write_scn(tmp_path / "a.scn", [MACRO, SCAN, other], images))


def test_leicas_fluorescence_is_refused(tmp_path: Path) -> None:
    images = [scn_image(SCAN, 0).replace("brightfield", "fluorescence")]
    with pytest.raises(SlideError, match="is a fluorescence scan"):
        open_slide(write_scn(tmp_path / "a.scn", [SCAN], images))


def write_planes(path: Path, pages: Sequence[tuple[Picture, dict[str, Any]]]) -> Path:
    text = "Motic V1.0.0\n2400x1600 [0,0 2400x1600] [512x512] JPEG/RGB|AppMag = 40"
    with tifffile.TiffWriter(path) as tiff:
        for number, (picture, options) in enumerate(pages):
            description = {"description": text} if number == 0 else {}
            tiff.write(picture, **TILED, **description, **options)
    return path


def planes_first(path: Path) -> Path:
    return write_planes(
        path,
        [
            *((plane, {}) for plane in PLANES),
            *((reduced(plane, 4), {"subfiletype": 1}) for plane in PLANES),
        ],
    )


def each_plane_with_its_level(path: Path) -> Path:
    return write_planes(
        path, [page for plane in PLANES for page in ((plane, {}), (reduced(plane, 4), {}))]
    )


def planes_alone(path: Path) -> Path:
    return write_planes(path, [(plane, {}) for plane in PLANES])


def planes_with_the_level_of_one(path: Path) -> Path:
    return write_planes(path, [*((p, {}) for p in PLANES), (reduced(PLANES[0], 4), {})])


def planes_in_subifds(path: Path) -> Path:
    first, *others = PLANES
    return write_planes(
        path,
        [(first, {"subifds": 3}), *((p, {}) for p in others), (reduced(first, 4), {})],
    )


def planes_with_subifds(path: Path) -> Path:
    pages = [
        page
        for plane in PLANES
        for page in ((plane, {"subifds": 1}), (reduced(plane, 4), {"subfiletype": 1}))
    ]
    return write_planes(path, pages)


def ome_planes(path: Path) -> Path:
    return write_ome(path, PLANES, [ome_image(SCAN, 0, planes=3)], factors=(4,))


def scn_planes(path: Path) -> Path:
    images = [scn_image(MACRO, 0, view=WHOLE_GLASS), scn_image(SCAN, 1, z=3)]
    return write_scn(path, [MACRO, *PLANES], images)


@pytest.mark.parametrize(
    "write",
    [
        planes_first,
        each_plane_with_its_level,
        planes_alone,
        planes_with_the_level_of_one,
        planes_in_subifds,
        planes_with_subifds,
        ome_planes,
        scn_planes,
    ],
)
def test_the_sharpest_plane_is_read_with_its_own_levels(
    write: Callable[[Path], Path], tmp_path: Path, read: Read
) -> None:
    path = write(tmp_path / "a.tif")
    found = read(path)
    mine, others = reduced(SCAN, 10), (reduced(PLANES[0], 10), reduced(PLANES[2], 10))
    difference = np.abs(found.astype(float) - mine).mean()
    assert difference < 0.5
    assert all(np.abs(found.astype(float) - other).mean() > difference for other in others)
    with open_slide(path) as slide:
        assert slide.metadata.focal_plane == "2 of 3"
        assert slide.properties["her2d.focal-plane"] == "2 of 3"


def test_a_page_that_names_the_same_blocks_twice_is_no_plane(tmp_path: Path, read: Read) -> None:
    path = write_planes(tmp_path / "a.tif", [(SCAN, {}), (NEIGHBOUR, {})])
    with tifffile.TiffFile(path) as tiff:
        first, second = (page.tags["TileOffsets"] for page in tiff.pages)
        offsets = first.valueoffset, second.valueoffset, first.count * 4
        counts = [page.tags["TileByteCounts"] for page in tiff.pages]
        sizes = counts[0].valueoffset, counts[1].valueoffset, counts[0].count * counts[0].dtype
        assert counts[0].dtype == counts[1].dtype
    data = bytearray(path.read_bytes())
    for start, target, length in (offsets, sizes):
        data[target : target + length] = data[start : start + length]
    path.write_bytes(data)
    assert_is(read(path), SCAN)
    with open_slide(path) as slide:
        assert slide.metadata.focal_plane is None


def test_one_plane_is_not_called_a_plane(tmp_path: Path) -> None:
    with open_slide(write_planes(tmp_path / "a.tif", [(SCAN, {})])) as slide:
        assert slide.metadata.focal_plane is None
        assert "her2d.focal-plane" not in slide.properties
