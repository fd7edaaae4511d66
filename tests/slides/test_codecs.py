"""Blocks of every compression decode to the same picture, or are refused with their reason."""

import lzma
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from handmade_tiff import SHORT, UNDEFINED, cut, write_image
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.grid import Tile, UnreadableTile
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
Read = Callable[..., Picture]
TilesOf = Callable[..., tuple[list[Tile], list[UnreadableTile]]]

RGB, YCBCR = 2, 6
START, END = b"\xff\xd8", b"\xff\xd9"
JFIF = b"\xff\xe0\x00\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0"


def tags(compression: int, photometric: int = RGB, **more: Any) -> dict[int, Any]:
    found = {
        259: (SHORT, [compression]),
        262: (SHORT, [photometric]),
        322: (SHORT, [256]),
        323: (SHORT, [256]),
    }
    return found | {int(tag[1:]): value for tag, value in more.items()}


def write(
    path: Path, image: Picture, encode: Callable[[Any], bytes], its_tags: dict[int, Any]
) -> Path:
    """Write a scan of tiles of 256 x 256 pixels."""
    blocks = [encode(block) for block in cut(image, 256, 256)]
    return write_image(path, (image.shape[1], image.shape[0]), blocks, its_tags)


def jpeg(image: Picture, **options: Any) -> bytes:
    """A JPEG of tables, frame and scan: no markers of JFIF or Adobe."""
    data = imagecodecs.jpeg8_encode(image, level=95, **options)
    at, kept = 2, START
    while data[at + 1] != 0xDA:
        size = 2 + struct.unpack_from(">H", data, at + 2)[0]
        if not 0xE0 <= data[at + 1] <= 0xEF:
            kept += data[at : at + size]
        at += size
    return kept + data[at:]


def rgb_jpeg(image: Picture) -> bytes:
    return jpeg(image, colorspace="rgb", outcolorspace="rgb", subsampling="444")


def ycbcr_of(image: Picture) -> Picture:
    """Full-range YCbCr of ITU-R BT.601, as JPEG has it."""
    luma = image @ np.array([0.299, 0.587, 0.114])
    blue, red = (128 + (image[..., 2] - luma) / 1.772), (128 + (image[..., 0] - luma) / 1.402)
    return np.stack([luma, blue, red], axis=-1).round().clip(0, 255).astype(np.uint8)


def difference(one: Picture, other: Picture) -> float:
    return float(np.abs(one.astype(int) - other).mean())


# --- The order of bits ------------------------------------------------------------------------

BYTE_CODECS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "uncompressed": (1, bytes),
    "LZW": (5, imagecodecs.lzw_encode),
    "deflate": (8, zlib.compress),
    "old deflate": (32946, zlib.compress),
    "PackBits": (32773, imagecodecs.packbits_encode),
    "LZMA": (34925, lzma.compress),
    "Zstandard": (50000, imagecodecs.zstd_encode),
    "old Zstandard": (34926, imagecodecs.zstd_encode),
}


@pytest.mark.parametrize("fill_order", [1, 2])
@pytest.mark.parametrize("codec", BYTE_CODECS.values(), ids=BYTE_CODECS)
def test_fill_order_2_reverses_the_bits_of_every_byte(
    fill_order: int,
    codec: tuple[int, Callable[[bytes], bytes]],
    picture: Callable[..., Picture],
    tmp_path: Path,
    read: Read,
) -> None:
    code, compress = codec
    image = picture()

    def encode(block: Picture) -> bytes:
        data = compress(block.tobytes())
        return data if fill_order == 1 else imagecodecs.bitorder_decode(data)

    path = write(tmp_path / "a.tif", image, encode, tags(code, _266=(SHORT, [fill_order])))
    np.testing.assert_array_equal(read(path), image)


@pytest.mark.parametrize("reversed_too", [False, True])
def test_fill_order_2_leaves_jpeg_as_it_is_unless_it_was_reversed_too(
    reversed_too: bool, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()

    def encode(block: Picture) -> bytes:
        return imagecodecs.bitorder_decode(jpeg(block)) if reversed_too else jpeg(block)

    path = write(tmp_path / "a.tif", image, encode, tags(7, YCBCR, _266=(SHORT, [2])))
    assert difference(read(path), image) < 1.5


@pytest.mark.parametrize("predictor", [1, 2])
@pytest.mark.parametrize("code", [8, 34925, 50000])
@pytest.mark.parametrize("bits", [8, 16])
def test_the_predictor_is_undone(
    predictor: int,
    code: int,
    bits: int,
    picture: Callable[..., Picture],
    tmp_path: Path,
    read: Read,
) -> None:
    image = picture()
    compress = {codec[0]: codec[1] for codec in BYTE_CODECS.values()}[code]

    def encode(block: Picture) -> bytes:
        deep = block.astype(f"<u{bits // 8}") * (1 if bits == 8 else 257)
        if predictor == 2:
            deep[:, 1:] -= deep[:, :-1].copy()
        return compress(deep.tobytes())

    its_tags = tags(code, _317=(SHORT, [predictor]), _258=(SHORT, [bits] * 3))
    np.testing.assert_array_equal(read(write(tmp_path / "a.tif", image, encode, its_tags)), image)


def test_the_predictor_does_not_concern_jpeg(
    picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    path = write(tmp_path / "a.tif", image, jpeg, tags(7, YCBCR, _317=(SHORT, [2])))
    assert difference(read(path), image) < 1.5


# --- Where blocks are listed ------------------------------------------------------------------


@pytest.mark.parametrize("tile", [256, 1120], ids=["small tiles", "a tile wider than the image"])
@pytest.mark.parametrize("listed_under", [(273, 279), (324, 325), (273, 325), (324, 279)])
def test_tiles_listed_under_the_tags_of_strips_are_tiles(
    tile: int,
    listed_under: tuple[int, int],
    picture: Callable[..., Picture],
    tmp_path: Path,
    read: Read,
) -> None:
    image = picture()
    path = write_image(
        tmp_path / "a.tif",
        (image.shape[1], image.shape[0]),
        [block.tobytes() for block in cut(image, tile, 256)],
        tags(1, _322=(SHORT, [tile])),
        listed_under=listed_under,
    )
    np.testing.assert_array_equal(read(path), image)


def test_a_last_strip_that_is_stored_whole_is_cut(
    picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture(700, 512)
    path = write_image(
        tmp_path / "a.tif",
        (512, 700),
        [zlib.compress(block.tobytes()) for block in cut(image, 512, 256)],
        {259: (SHORT, [8]), 262: (SHORT, [RGB]), 278: (SHORT, [256])},
        listed_under=(273, 279),
    )
    np.testing.assert_array_equal(read(path), image)


# --- JPEG -------------------------------------------------------------------------------------


@pytest.mark.parametrize("marker", [b"", JFIF], ids=["bare", "JFIF"])
def test_the_photometric_tag_and_not_a_marker_tells_rgb_from_ycbcr(
    marker: bytes, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()

    def with_marker(data: bytes) -> bytes:
        return START + marker + data[2:]

    rgb = write(
        tmp_path / "rgb.tif", image, lambda block: with_marker(rgb_jpeg(block)), tags(7, RGB)
    )
    ycbcr = write(
        tmp_path / "ycbcr.tif", image, lambda block: with_marker(jpeg(block)), tags(7, YCBCR)
    )
    assert difference(read(rgb), image) < 1
    assert difference(read(ycbcr), image) < 1.5


def test_jpeg_whose_chroma_has_fewer_samples_is_ycbcr_whatever_its_tag_states(
    picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    path = write(
        tmp_path / "a.tif", image, lambda block: jpeg(block, subsampling="420"), tags(7, RGB)
    )
    assert difference(read(path), image) < 1.5


@pytest.mark.parametrize("photometric", [RGB, YCBCR])
@pytest.mark.parametrize("step", [1, 2], ids=["full chroma", "half chroma"])
def test_separate_planes_of_jpeg_are_joined_and_converted(
    photometric: int, step: int, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    samples = ycbcr_of(image) if photometric == YCBCR else image
    step = step if photometric == YCBCR else 1

    def encode(block: Picture, plane: int) -> bytes:
        grey = block[..., plane]
        if plane and step == 2:
            grey = grey.reshape(128, 2, 128, 2).mean((1, 3)).round().astype(np.uint8)
        return jpeg(np.ascontiguousarray(grey))

    blocks = [encode(block, plane) for plane in range(3) for block in cut(samples, 256, 256)]
    its_tags = tags(7, photometric, _284=(SHORT, [2]), _530=(SHORT, [step, step]))
    path = write_image(tmp_path / "a.tif", (1100, 700), blocks, its_tags)
    assert difference(read(path), image) < 1.5


@pytest.mark.parametrize("code", [1, 8])
@pytest.mark.parametrize("planar", [1, 2])
def test_ycbcr_outside_jpeg_is_converted(
    code: int, planar: int, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    tiles = cut(ycbcr_of(image), 256, 256)
    if planar == 2:
        tiles = [np.ascontiguousarray(tile[..., plane]) for plane in range(3) for tile in tiles]
    compress = bytes if code == 1 else zlib.compress
    blocks = [compress(tile.tobytes()) for tile in tiles]
    its_tags = tags(code, YCBCR, _284=(SHORT, [planar]), _530=(SHORT, [1, 1]))
    path = write_image(tmp_path / "a.tif", (1100, 700), blocks, its_tags)
    assert np.abs(read(path).astype(int) - image).max() <= 3


@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_a_jpeg_that_lacks_only_its_end_marker_is_read(
    subsampling: str, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    whole = write(
        tmp_path / "whole.tif", image, lambda b: jpeg(b, subsampling=subsampling), tags(7, YCBCR)
    )
    for name, end in {"no marker": b"", "half a marker": b"\xff", "zeros": bytes(40)}.items():
        path = write(
            tmp_path / f"{name}.tif",
            image,
            lambda block, end=end: jpeg(block, subsampling=subsampling)[:-2] + end,
            tags(7, YCBCR),
        )
        np.testing.assert_array_equal(read(path), read(whole), err_msg=name)


def restarting(image: Picture) -> bytes:
    """A JPEG with a restart marker after each row of units."""
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90, restart_marker_rows=1)
    return file.getvalue()


@pytest.mark.parametrize("lost", [1, 2, 3, 10, 200, 5000])
@pytest.mark.parametrize("encode", [jpeg, restarting], ids=["one interval", "restart markers"])
def test_a_jpeg_without_an_end_marker_that_lacks_more_is_unreadable(
    lost: int,
    encode: Callable[[Picture], bytes],
    picture: Callable[..., Picture],
    tmp_path: Path,
    tiles_of: TilesOf,
) -> None:
    image = picture(512, 512)
    path = write_image(
        tmp_path / "a.tif",
        (512, 512),
        [encode(image)[: -2 - lost]],
        tags(7, YCBCR, _322=(SHORT, [512]), _323=(SHORT, [512])),
    )
    _, unreadable = tiles_of(path)
    assert [tile.reason for tile in unreadable] == ["block 0,0 is a JPEG that is cut short"]


def test_a_jpeg_cut_between_two_restart_markers_is_unreadable(
    picture: Callable[..., Picture], tmp_path: Path, tiles_of: TilesOf
) -> None:
    image = picture(512, 512)
    data = restarting(image)
    its_tags = tags(7, YCBCR, _322=(SHORT, [512]), _323=(SHORT, [512]))
    whole = write_image(tmp_path / "a.tif", (512, 512), [data[:-2]], its_tags)
    assert len(tiles_of(whole)[0]) == 1
    cut_short = data[: data.index(b"\xff\xd5", len(data) // 2)]
    path = write_image(tmp_path / "a.tif", (512, 512), [cut_short], its_tags)
    assert len(tiles_of(path)[1]) == 1


@pytest.mark.parametrize("end", [END, b"", bytes(6)], ids=["whole", "no end marker", "zeros"])
def test_jpeg_tables_are_used_with_or_without_an_end_marker(
    end: bytes, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    tables = b""

    def abbreviated(block: Picture) -> bytes:
        nonlocal tables
        data, at, rest, found = jpeg(block), 2, START, START
        while data[at + 1] != 0xDA:
            size = 2 + struct.unpack_from(">H", data, at + 2)[0]
            if data[at + 1] in (0xDB, 0xC4):
                found += data[at : at + size]
            else:
                rest += data[at : at + size]
            at += size
        tables = found + end
        return rest + data[at:]

    blocks = [abbreviated(block) for block in cut(image, 256, 256)]
    its_tags = tags(7, YCBCR, _347=(UNDEFINED, tables))
    path = write_image(tmp_path / "a.tif", (1100, 700), blocks, its_tags)
    assert difference(read(path), image) < 1.5
    its_tags[347] = (UNDEFINED, tables[: len(tables) - len(end) - 5])
    with pytest.raises(SlideError, match="JPEG tables that are damaged or cut short"):
        open_slide(write_image(tmp_path / "a.tif", (1100, 700), blocks, its_tags))


# --- JPEG 2000 --------------------------------------------------------------------------------


def jpeg_2000(image: NDArray[Any], **options: Any) -> bytes:
    found: bytes = imagecodecs.jpeg2k_encode(
        image, **{"codecformat": "j2k", "level": 0, "mct": False} | options
    )
    return found


@pytest.mark.parametrize(
    ("code", "photometric", "transformed", "stored_as"),
    [
        (33003, RGB, False, "YCbCr"),  # as Aperio writes it, whatever the tag states
        (33003, YCBCR, False, "YCbCr"),
        (33005, RGB, False, "RGB"),
        (33005, RGB, True, "RGB"),
        (33005, YCBCR, True, "RGB"),
        (34712, RGB, True, "RGB"),
        (34712, YCBCR, False, "YCbCr"),
        (34712, YCBCR, True, "RGB"),  # the codestream says that its encoder was given RGB
    ],
)
def test_jpeg_2000_is_rgb_or_ycbcr_as_its_compression_and_codestream_say(
    code: int,
    photometric: int,
    transformed: bool,
    stored_as: str,
    picture: Callable[..., Picture],
    tmp_path: Path,
    read: Read,
) -> None:
    image = picture()
    stored = image if stored_as == "RGB" else ycbcr_of(image)
    path = write(
        tmp_path / "a.tif",
        stored,
        lambda block: jpeg_2000(block, mct=transformed),
        tags(code, photometric),
    )
    assert np.abs(read(path).astype(int) - image).max() <= 3


@pytest.mark.parametrize("photometric", [RGB, YCBCR])
def test_jpeg_2000_in_a_file_that_says_srgb_or_sycc(
    photometric: int, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()

    def encode(block: Picture) -> bytes:
        stored = block if photometric == RGB else ycbcr_of(block)
        data = jpeg_2000(stored, codecformat="jp2")
        kind = data.index(b"colr") + 7
        space = 16 if photometric == RGB else 18
        return data[:kind] + space.to_bytes(4, "big") + data[kind + 4 :]

    path = write(tmp_path / "a.tif", image, encode, tags(34712, photometric))
    assert np.abs(read(path).astype(int) - image).max() <= 3


@pytest.mark.parametrize("bits", [12, 16])
def test_jpeg_2000_of_more_bits_keeps_the_upper_eight(
    bits: int, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    path = write(
        tmp_path / "a.tif",
        image,
        lambda block: jpeg_2000(block.astype(np.uint16) << (bits - 8), bitspersample=bits),
        tags(34712, _258=(SHORT, [16] * 3)),
    )
    np.testing.assert_array_equal(read(path), image)


# --- Pictures within blocks -------------------------------------------------------------------

LOSSLESS: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "WebP": (50001, lambda block: imagecodecs.webp_encode(block, lossless=True)),
    "PNG": (34933, imagecodecs.png_encode),
    "LERC": (34887, imagecodecs.lerc_encode),
    "LERC in Zstandard": (34887, lambda b: imagecodecs.lerc_encode(b, compression="zstd")),
    "LERC in deflate": (34887, lambda b: imagecodecs.lerc_encode(b, compression="deflate")),
    "JPEG XL": (50002, lambda block: imagecodecs.jpegxl_encode(block, lossless=True)),
    "JPEG XL of DNG": (52546, lambda block: imagecodecs.jpegxl_encode(block, lossless=True)),
    "JPEG XL in a file": (50002, lambda b: imagecodecs.jpegxl_encode(b, usecontainer=True)),
    "JPEG XR": (34934, imagecodecs.jpegxr_encode),
    "old JPEG XR": (22610, imagecodecs.jpegxr_encode),
}
LOSSY: dict[str, tuple[int, Callable[[Any], bytes]]] = {
    "WebP": (50001, lambda block: imagecodecs.webp_encode(block, level=95, lossless=False)),
    "JPEG XL": (50002, lambda block: imagecodecs.jpegxl_encode(block, level=95, lossless=False)),
    "JPEG XR": (34934, lambda block: imagecodecs.jpegxr_encode(block, level=95)),
}


@pytest.mark.parametrize("codec", LOSSLESS.values(), ids=LOSSLESS)
def test_lossless_pictures_within_blocks_are_exact(
    codec: tuple[int, Callable[[Any], bytes]],
    picture: Callable[..., Picture],
    tmp_path: Path,
    read: Read,
) -> None:
    image = picture()
    path = write(tmp_path / "a.tif", image, codec[1], tags(codec[0]))
    np.testing.assert_array_equal(read(path), image)


@pytest.mark.parametrize("codec", LOSSY.values(), ids=LOSSY)
def test_lossy_pictures_within_blocks_are_as_tifffile_decodes_them(
    codec: tuple[int, Callable[[Any], bytes]],
    picture: Callable[..., Picture],
    tmp_path: Path,
    read: Read,
) -> None:
    image = picture()
    path = write(tmp_path / "a.tif", image, codec[1], tags(codec[0]))
    found = read(path)
    assert difference(found, tifffile.imread(path)) < 0.5
    assert difference(found, image) < 3


@pytest.mark.parametrize("name", ["PNG", "LERC", "JPEG XL", "JPEG XR"])
def test_pictures_of_16_bits_keep_the_upper_eight(
    name: str, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    code, encode = LOSSLESS[name]
    path = write(
        tmp_path / "a.tif",
        image,
        lambda block: encode(block.astype(np.uint16) * 257),
        tags(code, _258=(SHORT, [16] * 3)),
    )
    np.testing.assert_array_equal(read(path), image)


@pytest.mark.parametrize("name", ["WebP", "PNG", "JPEG XL"])
def test_pictures_with_alpha_are_laid_over_white(
    name: str, picture: Callable[..., Picture], tmp_path: Path, read: Read
) -> None:
    image = picture()
    alpha = np.full((*image.shape[:2], 1), 255, np.uint8)
    alpha[:, :300] = 0
    code, encode = LOSSLESS[name]
    path = write(
        tmp_path / "a.tif",
        np.concatenate([image, alpha], axis=-1),
        encode,
        tags(code, _258=(SHORT, [8] * 4), _277=(SHORT, [4]), _338=(SHORT, [2])),
    )
    found = read(path)
    assert (found[:, :300] == 255).all()
    np.testing.assert_array_equal(found[:, 300:], image[:, 300:])


ALL = LOSSLESS | {"JPEG": (7, rgb_jpeg), "JPEG 2000": (34712, jpeg_2000)}


@pytest.mark.parametrize("codec", ALL.values(), ids=ALL)
@pytest.mark.parametrize("side", [255, 512], ids=["smaller", "larger"])
def test_a_picture_of_another_size_than_its_block_is_not_decoded(
    codec: tuple[int, Callable[[Any], bytes]],
    side: int,
    picture: Callable[..., Picture],
    tmp_path: Path,
    tiles_of: TilesOf,
) -> None:
    blocks = [codec[1](picture(side, side))] * 4
    path = write_image(tmp_path / "a.tif", (512, 512), blocks, tags(codec[0]))
    _, unreadable = tiles_of(path)
    assert f"{side} x {side} pixels instead of 256 x 256" in unreadable[0].reason


@pytest.mark.parametrize("codec", ALL.values(), ids=ALL)
def test_a_damaged_picture_makes_its_tile_unreadable_and_ends_nothing(
    codec: tuple[int, Callable[[Any], bytes]],
    picture: Callable[..., Picture],
    tmp_path: Path,
    tiles_of: TilesOf,
) -> None:
    data = codec[1](picture(256, 256))
    blocks = [data[: len(data) // 2], data, data, data]
    path = write_image(tmp_path / "a.tif", (512, 512), blocks, tags(codec[0]))
    _, unreadable = tiles_of(path)
    assert unreadable[0].reason.startswith("block 0,0 ")
    assert "\n" not in unreadable[0].reason


BOMBS: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "deflate": (8, zlib.compress),
    "LZMA": (34925, lzma.compress),
    "Zstandard": (50000, imagecodecs.zstd_encode),
    "LERC in Zstandard": (34887, imagecodecs.zstd_encode),
    "LERC in deflate": (34887, zlib.compress),
}

READ_WITHIN_LIMITS = """
import resource, sys
from her2d.slides.reader import open_slide
with open_slide(sys.argv[1]) as slide:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    list(slide.tiles())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("codec", BOMBS.values(), ids=BOMBS)
@pytest.mark.slow
def test_what_a_block_holds_beyond_its_pixels_is_not_unpacked(
    codec: tuple[int, Callable[[bytes], bytes]], tmp_path: Path
) -> None:
    bomb = codec[1](bytes(400 * 2**20))
    path = write_image(tmp_path / "a.tif", (512, 512), [bomb] * 4, tags(codec[0]))
    command = [sys.executable, "-c", READ_WITHIN_LIMITS, str(path)]
    grown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(grown) < 100 * 1024


def test_lzma_that_demands_gigabytes_is_refused(tmp_path: Path, tiles_of: TilesOf) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    try:
        data = lzma.compress(bytes(256 * 256 * 3), filters=filters)
    except MemoryError:
        pytest.skip("this machine cannot write such a block")
    path = write_image(tmp_path / "a.tif", (512, 512), [data] * 4, tags(34925))
    assert "Memory usage limit" in tiles_of(path)[1][0].reason


def test_a_decoder_that_crashes_takes_only_its_block_with_it(
    picture: Callable[..., Picture], tmp_path: Path, tiles_of: TilesOf
) -> None:
    rng = np.random.default_rng(3)
    whole = imagecodecs.jpegxr_encode(picture(256, 256), level=90)
    blocks = []
    for _ in range(64):
        damaged = bytearray(whole)
        for at in rng.integers(200, len(damaged), 20):
            damaged[at] = rng.integers(256)
        blocks.append(bytes(damaged))
    blocks[-1] = whole
    path = write_image(tmp_path / "a.tif", (2048, 2048), blocks, tags(34934))
    with open_slide(path) as slide:
        assert len(list(slide.tiles())) == 16
        last = slide.read_region((1792, 1792), 0, (256, 256))
    assert difference(last, picture(256, 256)) < 3


@pytest.mark.parametrize(
    ("code", "reason"), [(2, "TIFF code 2"), (34661, "TIFF code 34661"), (9, "TIFF code 9")]
)
def test_other_compressions_are_refused_by_their_code(
    code: int, reason: str, tmp_path: Path
) -> None:
    path = write_image(tmp_path / "a.tif", (512, 512), [b"x" * 100] * 4, tags(code))
    with pytest.raises(SlideError, match=reason):
        open_slide(path)
