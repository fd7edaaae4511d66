"""Other readers of whole-slide images see the pixels that her2d sees.

A layout is one line of LAYOUTS: how the file is written, and which peers cannot read it and why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
import tiffslide
from numpy.typing import NDArray
from real_slides import CMU

from her2d.simulator.motic import write_he_slide
from her2d.simulator.plan import plan_slide
from her2d.slides.grid import Tile
from her2d.slides.reader import open_slide

pytestmark = pytest.mark.slow

Picture = NDArray[np.uint8]

MOTIC = "Motic V1.0.0\n{w}x{h} [0,0 {w}x{h}] [256x256] JPEG/RGB Q = 75|AppMag = 20|MPP = 0.5"
APERIO = "Aperio Image Library v12\n{w}x{h} (256x256) JPEG/RGB Q=70|AppMag = 20|MPP = 0.5"
OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
    '<Image ID="Image:0"><Pixels ID="Pixels:0" Type="uint8" SizeX="{w}" SizeY="{h}" SizeC="3"'
    ' SizeZ="1" SizeT="1" DimensionOrder="XYCZT" PhysicalSizeX="0.5" PhysicalSizeY="0.5">'
    '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0"/></Pixels></Image></OME>'
)
MEAN, MOST = 1.0, 4  # grey values that a peer may differ by; the largest for lossless files only


def page(**options: Any) -> Callable[[Path, Picture], None]:
    """Write one image with the options of `tifffile.imwrite`; `pixels` makes its samples."""
    return pyramid(1, **options)


def pyramid(*reductions: int, **options: Any) -> Callable[[Path, Picture], None]:
    """Write the picture and its averages, in the order of the reductions."""

    def write(path: Path, picture: Picture) -> None:
        write_pages(path, picture, reductions=reductions, **options)

    return write


def write_pages(
    path: Path,
    picture: Picture,
    *,
    reductions: tuple[int, ...],
    subifds: bool = False,
    description: str = MOTIC,
    pixels: Callable[[Picture], NDArray[Any]] = lambda picture: picture,
    bigtiff: bool = False,
    byteorder: str = "<",
    thumbnail: bool = False,
    **options: Any,
) -> None:
    height, width = picture.shape[:2]
    options = {"photometric": "rgb", "tile": (256, 256), "metadata": None, **options}
    with tifffile.TiffWriter(path, bigtiff=bigtiff, byteorder=byteorder) as tiff:
        for number, reduction in enumerate(reductions):
            level = pixels(averaged(picture, reduction))
            below = {"subifds": len(reductions) - 1} if subifds and number == 0 else {}
            text = description.format(w=width, h=height) if reduction == 1 else None
            reduced = {"subfiletype": 1} if reduction > 1 else {}
            tiff.write(level, description=text, **reduced, **below, **options)
            if thumbnail and number == 0:  # Aperio's second page
                tiff.write(averaged(picture, 16), photometric="rgb", metadata=None)


def a_motic_scan(magnification: float) -> Callable[[Path, Picture], None]:
    """Write a scan with a JPEG pyramid, thumbnail, label and macro, as the simulator does."""

    def write(path: Path, _: Picture) -> None:
        plan = plan_slide(
            "a", 7, her2_status="positive", width=600, height=512, magnification=magnification
        )
        write_he_slide(plan, path)

    return write


def a_real_scan(path: Path, _: Picture) -> None:
    path.write_bytes(CMU.read_bytes())


def averaged(picture: Picture, factor: Fraction | int) -> Picture:
    """Average factor x factor pixels; a remainder at the edge is dropped."""
    means = picture.astype(np.float32)
    across, parts = Fraction(factor).as_integer_ratio()
    for axis in (0, 1):
        fine = np.moveaxis(means, axis, 0).repeat(parts, axis=0)
        whole = fine[: len(fine) // across * across].reshape(-1, across, *fine.shape[1:])
        means = np.moveaxis(whole.mean(axis=1), 0, axis)
    return np.floor(means + 0.5).astype(np.uint8)


def as_ycbcr(picture: Picture) -> Picture:
    luma = picture @ np.array([0.299, 0.587, 0.114])
    blue = 128 + (picture[..., 2] - luma) / 1.772
    red = 128 + (picture[..., 0] - luma) / 1.402
    return np.stack([luma, blue, red], axis=-1).round().clip(0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Layout:
    """A kind of file.

    Attributes:
        write: writes the picture to a path.
        unreadable: why a peer cannot read it, by the peer's name.
        lossless: whether the file holds the picture exactly.
    """

    write: Callable[[Path, Picture], None]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    lossless: bool = True


JPEG = {"compression": "jpeg", "compressionargs": {"level": 90, "outcolorspace": "ycbcr"}}
RGB_JPEG = {"compression": "jpeg", "compressionargs": {"level": 90, "outcolorspace": "rgb"}}
TILES_ONLY = {"openslide": "a generic TIFF must have tiles"}
NO_JPEG_2000 = {"libtiff": "does not decode JPEG 2000"}
MAIN_CHAIN_ONLY = {
    "openslide": "has no level from SubIFDs",
    "libtiff": "counts pages of the main chain only",
}
NO_PLANES = {"tiffslide": "axes SYX are not supported"}

LAYOUTS = {
    "tiles": Layout(page()),
    "tiles of 240 pixels": Layout(page(tile=(240, 240), compression="lzw")),
    "oblong tiles": Layout(page(tile=(128, 704))),
    "strips of 16 rows": Layout(page(tile=None, rowsperstrip=16), TILES_ONLY),
    "one strip": Layout(page(tile=None, rowsperstrip=10_000), TILES_ONLY),
    "LZW strips": Layout(page(tile=None, rowsperstrip=64, compression="lzw"), TILES_ONLY),
    "LZW": Layout(page(compression="lzw")),
    "LZW with predictor": Layout(page(compression="lzw", predictor=True)),
    "deflate": Layout(page(compression="zlib")),
    "deflate with predictor": Layout(page(compression="zlib", predictor=True)),
    "PackBits": Layout(page(compression="packbits")),
    "BigTIFF": Layout(page(bigtiff=True)),
    "big-endian": Layout(
        page(byteorder=">", compression="lzw"), {"openslide": "big-endian BigTIFF only"}
    ),
    "big-endian BigTIFF": Layout(page(byteorder=">", bigtiff=True, compression="lzw")),
    "JPEG": Layout(page(**JPEG), lossless=False),
    "JPEG of RGB": Layout(page(**RGB_JPEG), lossless=False),
    "JPEG strips": Layout(
        page(tile=None, rowsperstrip=64, **JPEG),
        TILES_ONLY,
        lossless=False,
    ),
    "Aperio's JPEG 2000 of RGB": Layout(
        page(
            description=APERIO,
            compression=33005,
            compressionargs={"level": 0, "codecformat": "j2k"},
        ),
        NO_JPEG_2000,
    ),
    "Aperio's JPEG 2000 of YCbCr": Layout(
        page(
            description=APERIO,
            pixels=as_ycbcr,
            compression=33003,
            compressionargs={"level": 0, "codecformat": "j2k", "mct": False},
        ),
        {**NO_JPEG_2000, "tiffslide": "does not convert YCbCr to RGB"},
    ),
    "JPEG 2000": Layout(
        page(compression=34712, compressionargs={"level": 0}),
        {**NO_JPEG_2000, "openslide": "only Aperio's JPEG 2000"},
    ),
    "separate planes": Layout(
        page(
            planarconfig="separate",
            pixels=lambda picture: np.ascontiguousarray(picture.transpose(2, 0, 1)),
        ),
        NO_PLANES,
    ),
    "16 bits": Layout(
        page(pixels=lambda picture: picture.astype(np.uint16) * 257),
        {"tiffslide": "8 bits only"},
    ),
    "a pyramid on the main chain": Layout(pyramid(1, 2, 4)),
    "a pyramid that reaches 4x": Layout(
        pyramid(1, 5, compression="zlib"), {"tiffslide": "reductions by powers of 2 only"}
    ),
    "an Aperio pyramid": Layout(
        pyramid(1, 4, description=APERIO, thumbnail=True, **JPEG),
        {"tiffslide": "needs Aperio's description in each level"},
        lossless=False,
    ),
    "a pyramid in SubIFDs": Layout(pyramid(1, 2, 4, subifds=True), MAIN_CHAIN_ONLY),
    "an OME pyramid": Layout(
        pyramid(1, 2, 4, subifds=True, description=OME, compression="lzw"), MAIN_CHAIN_ONLY
    ),
    "a Motic scan at 4x": Layout(a_motic_scan(4), lossless=False),
    "a Motic scan at 40x": Layout(
        a_motic_scan(40), {"openslide": "needs NewSubfileType 1 in each level"}, lossless=False
    ),
    "a real Aperio scan": Layout(a_real_scan, lossless=False),
}


def by_openslide(path: Path, size: tuple[int, int]) -> Picture:
    with openslide.OpenSlide(path) as slide:
        level = slide.level_dimensions.index(size)
        return np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))


def by_tiffslide(path: Path, size: tuple[int, int]) -> Picture:
    with tiffslide.TiffSlide(path) as slide:
        level = slide.level_dimensions.index(size)
        return np.asarray(slide.read_region((0, 0), level, size).convert("RGB"))


def by_libtiff(path: Path, size: tuple[int, int]) -> Picture:
    """A page by libtiff's own conversion to RGBA."""
    data = path.read_bytes()
    for index in range(9):
        page = imagecodecs.tiff_decode(data, index=index, asrgb=True)
        if page.shape[1::-1] == size:
            return page[..., :3]
    raise ValueError(f"no page of {size}")


PEERS = {"openslide": by_openslide, "tiffslide": by_tiffslide, "libtiff": by_libtiff}


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, picture: Callable[..., Picture]
) -> Callable[[str], Path]:
    """Write each layout once."""
    folder = tmp_path_factory.mktemp("layouts")
    image = picture(1303, 2716)  # at 4x two tiles across, and a remainder at both edges

    def written(name: str) -> Path:
        path = folder / f"{name}.tif"
        if not path.exists():
            LAYOUTS[name].write(path, image)
        return path

    return written


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        pytest.param(name, peer, id=f"{name} by {peer}")
        for name, layout in LAYOUTS.items()
        for peer in PEERS
        if peer not in layout.unreadable
    ],
)
def test_each_tile_has_the_pixels_that_another_reader_finds(
    name: str, peer: str, files: Callable[[str], Path]
) -> None:
    layout, path = LAYOUTS[name], files(name)
    with open_slide(path) as slide:
        tiles = list(slide.tiles())
        grid = slide.grid
        level = slide.get_best_level_for_downsample(grid.level0_downsample)
        size, downsample = slide.level_dimensions[level], slide.level_downsamples[level]
    factor = Fraction(grid.level0_downsample / downsample).limit_denominator(16)
    expected = averaged(PEERS[peer](path, size), factor)
    assert abs(np.subtract((grid.height, grid.width), expected.shape[:2])).max() <= 1
    for tile in tiles:
        assert isinstance(tile, Tile), tile
        y, x = tile.row * 512, tile.column * 512
        # The peer's level may lack the last row or column, where averages were rounded down.
        theirs = expected[y : y + 512, x : x + 512].astype(int)
        ours = tile.pixels[: theirs.shape[0], : theirs.shape[1]]
        ours = ours[: grid.height - y, : grid.width - x]
        difference = np.abs(ours - theirs[: ours.shape[0], : ours.shape[1]])
        assert difference.mean() < MEAN
        assert not layout.lossless or difference.max() < MOST
