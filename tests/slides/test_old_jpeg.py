"""Old-style JPEG is read in the forms that programs wrote it in."""

import struct
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from handmade_tiff import LONG, SHORT, cut, write_image
from numpy.typing import NDArray
from PIL import Image

from her2d.slides.errors import SlideError
from her2d.slides.grid import UnreadableTile
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
YCBCR = 6


def segments(data: bytes) -> tuple[dict[int, list[bytes]], bytes]:
    """Return the contents of a JPEG's segments by marker, and its coded data."""
    at, found = 2, dict[int, list[bytes]]()
    while True:
        size = struct.unpack_from(">H", data, at + 2)[0]
        found.setdefault(data[at + 1], []).append(data[at + 4 : at + 2 + size])
        at += 2 + size
        if 0xDA in found:
            return found, data[at:-2]


def encode(block: Picture) -> bytes:
    return bytes(imagecodecs.jpeg8_encode(block, level=90, subsampling="420"))


def tile_tags() -> dict[int, tuple[int, list[int]]]:
    return {
        259: (SHORT, [6]),
        262: (SHORT, [YCBCR]),
        322: (SHORT, [256]),
        323: (SHORT, [256]),
        512: (SHORT, [1]),
        530: (SHORT, [2, 2]),
    }


def written(path: Path, image: Picture, form: str) -> Path:
    """Write tiles as whole JPEGs, or as coded data with tables in a stream or in tags."""
    jpegs = [encode(tile) for tile in cut(image, 256, 256)]
    tags, size = tile_tags(), (image.shape[1], image.shape[0])
    if form == "whole":
        return write_image(path, size, jpegs, tags)
    found, _ = segments(jpegs[0])
    blocks = [segments(jpeg)[1] for jpeg in jpegs]
    if form == "stream":
        stream = jpegs[0][: jpegs[0].index(blocks[0])]
        tags |= {513: (LONG, [8]), 514: (LONG, [len(stream)])}
        # What is written first lies at byte 8; it is listed as no block.
        return prefixed(path, size, stream, blocks, tags)
    quantisation = {q[at]: q[at + 1 : at + 65] for q in found[0xDB] for at in range(0, len(q), 65)}
    huffman: dict[int, bytes] = {}
    for content in found[0xC4]:
        at = 0
        while at < len(content):
            length = 17 + sum(content[at + 1 : at + 17])
            huffman[content[at]] = content[at + 1 : at + length]
            at += length
    parts = [quantisation[0], quantisation[1], huffman[0], huffman[1], huffman[0x10], huffman[0x11]]
    offsets = [8 + sum(map(len, parts[:index])) for index in range(6)]
    tags |= {
        519: (LONG, [offsets[0], offsets[1], offsets[1]]),
        520: (LONG, [offsets[2], offsets[3], offsets[3]]),
        521: (LONG, [offsets[4], offsets[5], offsets[5]]),
    }
    return prefixed(path, size, b"".join(parts), blocks, tags)


def prefixed(
    path: Path, size: tuple[int, int], first: bytes, blocks: list[bytes], tags: dict[int, object]
) -> Path:
    """Write `first` at byte 8, then the image."""
    write_image(path, size, [first, *blocks], tags)
    data = bytearray(path.read_bytes())
    for tag in (324, 325):  # leave the first out of the lists
        (directory,) = struct.unpack_from("<I", data, 4)
        for at in range(directory + 2, len(data) - 4, 12):
            if struct.unpack_from("<H", data, at)[0] == tag:
                count, place = struct.unpack_from("<II", data, at + 4)
                struct.pack_into("<II", data, at + 4, count - 1, place + 4)
                break
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("form", ["whole", "stream", "tags"])
def test_old_style_jpeg_gives_the_pixels_of_its_jpegs(
    form: str, picture: Callable[..., Picture], tmp_path: Path, read: Callable[..., Picture]
) -> None:
    image = picture()
    path = written(tmp_path / "a.tif", image, form)
    tiles = [
        imagecodecs.jpeg8_decode(encode(tile), colorspace="ycbcr", outcolorspace="rgb")
        for tile in cut(image, 256, 256)
    ]
    rows = [np.concatenate(tiles[at : at + 5], axis=1) for at in (0, 5, 10)]
    expected = np.concatenate(rows)[:700, :1100]
    assert np.abs(read(path).astype(int) - expected).mean() < 0.5


def test_old_style_jpeg_in_tags_is_as_libtiff_shows_it(
    picture: Callable[..., Picture], tmp_path: Path, read: Callable[..., Picture]
) -> None:
    path = written(tmp_path / "a.tif", picture(256, 512), "tags")
    with Image.open(path) as image:
        shown = np.asarray(image.convert("RGB"))
    # libtiff 4.7 reads the first of several tiles only, and repeats samples of chroma where
    # libjpeg interpolates between them.
    first = np.abs(read(path).astype(int) - shown)[:, :256]
    assert first.mean() < 2


def test_coded_data_without_tables_or_cut_short_is_unreadable(
    picture: Callable[..., Picture], tmp_path: Path
) -> None:
    image = picture(512, 512)
    blocks = [segments(encode(tile))[1] for tile in cut(image, 256, 256)]
    path = write_image(tmp_path / "a.tif", (512, 512), blocks, tile_tags())
    with open_slide(path) as slide:
        assert all(isinstance(tile, UnreadableTile) for tile in slide.tiles())


def test_lossless_old_style_jpeg_is_refused(
    picture: Callable[..., Picture], tmp_path: Path
) -> None:
    blocks = [encode(tile) for tile in cut(picture(512, 512), 256, 256)]
    tags = tile_tags() | {512: (SHORT, [14])}
    with pytest.raises(SlideError, match="old-style JPEG pixels that are not baseline"):
        open_slide(write_image(tmp_path / "a.tif", (512, 512), blocks, tags))
