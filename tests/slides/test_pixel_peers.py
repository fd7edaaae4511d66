"""Unusual blocks decode to the pixels that OpenSlide, tiffslide, Pillow and tifffile see."""

import lzma
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import openslide
import pytest
import tifffile
import tiffslide
from handmade_tiff import SHORT, cut, write_image
from numpy.typing import NDArray
from PIL import Image

from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
Peer = Callable[[Path], Picture]

DATA = Path(__file__).parents[1] / "data"
APERIO = "Aperio Image Library v10.0.50\r\n{w}x{h} [0,0 {w}x{h}] (256x256) J2K|AppMag = 4|MPP = 2.5"
JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"
RGB, YCBCR = 2, 6


def by_openslide(path: Path) -> Picture:
    with openslide.OpenSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]


def by_tiffslide(path: Path) -> Picture:
    with tiffslide.TiffSlide(path) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., :3]


def by_pillow(path: Path) -> Picture:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def by_tifffile(path: Path) -> Picture:
    return np.asarray(tifffile.imread(path))


def jpeg(image: Picture) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(image, level=90))


def rgb_jpeg_with_jfif(image: Picture) -> bytes:
    data = imagecodecs.jpeg8_encode(image, level=90, colorspace="rgb", outcolorspace="rgb")
    adobe = data.find(b"\xff\xee")  # libjpeg writes Adobe's marker, which would say RGB
    if adobe >= 0:
        data = data[:adobe] + data[adobe + 2 + int.from_bytes(data[adobe + 2 : adobe + 4], "big") :]
    return b"\xff\xd8" + JFIF + data[2:]


def reversed_bits(compress: Callable[[bytes], bytes]) -> Callable[[Picture], bytes]:
    return lambda block: imagecodecs.bitorder_decode(compress(block.tobytes()))


def plane_jpeg(image: Picture) -> bytes:
    return jpeg(np.ascontiguousarray(image))


LOSSLESS, LOSSY = (0.0, 0), (1.0, 40)  # mean and largest difference

# Compression, photometric, further tags, encoder of a block, peers, differences
CASES: dict[str, tuple[int, int, dict[int, Any], Any, tuple[Peer, ...], tuple[float, int]]] = {
    "fill order 2, uncompressed": (
        1, RGB, {266: (SHORT, [2])}, reversed_bits(bytes), (by_openslide, by_tifffile), LOSSLESS,
    ),
    "fill order 2, LZW": (
        5, RGB, {266: (SHORT, [2])}, reversed_bits(imagecodecs.lzw_encode), (by_openslide,),
        LOSSLESS,
    ),
    "fill order 2, deflate": (
        8, RGB, {266: (SHORT, [2])}, reversed_bits(zlib.compress), (by_openslide, by_tifffile),
        LOSSLESS,
    ),
    "fill order 2, JPEG": (
        7, YCBCR, {266: (SHORT, [2])}, jpeg, (by_openslide, by_tifffile), LOSSY,
    ),
    "RGB JPEG with a JFIF marker": (7, RGB, {}, rgb_jpeg_with_jfif, (by_openslide,), LOSSY),
    "JPEG without an end marker": (
        7, YCBCR, {}, lambda block: jpeg(block)[:-2], (by_tiffslide,), LOSSY,
    ),
    "Zstandard": (
        50000, RGB, {}, lambda block: imagecodecs.zstd_encode(block.tobytes()),
        (by_pillow, by_tifffile), LOSSLESS,
    ),
    "LZMA": (
        34925, RGB, {}, lambda block: lzma.compress(block.tobytes()), (by_pillow, by_tifffile),
        LOSSLESS,
    ),
    "WebP": (
        50001, RGB, {}, lambda block: imagecodecs.webp_encode(block, level=90, lossless=False),
        (by_tifffile,), LOSSY,
    ),
}  # fmt: skip


def difference(found: Picture, expected: Picture) -> tuple[float, int]:
    assert found.shape == expected.shape
    distance = np.abs(found.astype(int) - expected)
    return float(distance.mean()), int(distance.max())


def whole(path: Path) -> Picture:
    with open_slide(path) as slide:
        return slide.read_region((0, 0), 0, slide.dimensions)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_pixels_are_as_a_peer_decodes_them(
    case: tuple[Any, ...], picture: Callable[..., Picture], tmp_path: Path
) -> None:
    compression, photometric, more, encode, peers, (mean, most) = case
    image = picture()
    tags = {
        259: (SHORT, [compression]), 262: (SHORT, [photometric]),
        322: (SHORT, [256]), 323: (SHORT, [256]), **more,
    }  # fmt: skip
    blocks = [encode(block) for block in cut(image, 256, 256)]
    path = write_image(tmp_path / "a.tif", (1100, 700), blocks, tags)
    for peer in peers:
        found = difference(whole(path), peer(path))
        assert found[0] <= mean, peer.__name__
        assert found[1] <= most, peer.__name__


@pytest.mark.parametrize("photometric", [RGB, YCBCR])
def test_separate_planes_of_jpeg_are_as_openslide_shows_them(
    photometric: int, picture: Callable[..., Picture], tmp_path: Path
) -> None:
    image = picture()
    if photometric == YCBCR:
        image = imagecodecs.jpeg8_decode(jpeg(image), colorspace="ycbcr", outcolorspace="ycbcr")
    tags = {
        259: (SHORT, [7]), 262: (SHORT, [photometric]), 284: (SHORT, [2]),
        322: (SHORT, [256]), 323: (SHORT, [256]), 530: (SHORT, [1, 1]),
    }  # fmt: skip
    tiles = cut(image, 256, 256)
    blocks = [plane_jpeg(tile[..., plane]) for plane in range(3) for tile in tiles]
    path = write_image(tmp_path / "a.tif", (1100, 700), blocks, tags)
    mean, _ = difference(whole(path), by_openslide(path))
    assert mean < 1


@pytest.mark.parametrize("subsampling", ["422", "420"])
@pytest.mark.parametrize("photometric", [RGB, YCBCR])
@pytest.mark.parametrize("peer", [by_openslide, by_tiffslide])
def test_aperio_s_subsampled_jpeg_2000_is_as_its_peers_show_it(
    subsampling: str,
    photometric: int,
    peer: Peer,
    picture: Callable[..., Picture],
    tmp_path: Path,
) -> None:
    if peer is by_tiffslide and photometric == YCBCR:
        pytest.skip("tiffslide refuses subsampling outside JPEG where the tag says YCbCr")
    block = (DATA / f"ycbcr-{subsampling}.j2k").read_bytes()
    tags = {
        259: (SHORT, [33003]), 262: (SHORT, [photometric]),
        322: (SHORT, [256]), 323: (SHORT, [256]),
    }  # fmt: skip
    path = write_image(tmp_path / "a.svs", (512, 512), [block] * 4, tags, description=APERIO)
    found = whole(path)
    assert difference(found, peer(path))[0] < 1
    assert difference(found[:256, :256], picture(256, 256))[0] < 3


@pytest.mark.parametrize("code", [33003, 33005])
def test_aperio_s_full_jpeg_2000_is_as_openslide_shows_it(
    code: int, picture: Callable[..., Picture], tmp_path: Path
) -> None:
    tags = {259: (SHORT, [code]), 262: (SHORT, [RGB]), 322: (SHORT, [256]), 323: (SHORT, [256])}
    blocks = [
        imagecodecs.jpeg2k_encode(block, level=0, codecformat="j2k", mct=False)
        for block in cut(picture(), 256, 256)
    ]
    path = write_image(tmp_path / "a.svs", (1100, 700), blocks, tags, description=APERIO)
    assert difference(whole(path), by_openslide(path))[0] < 1
