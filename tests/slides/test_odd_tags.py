"""Tags that are not as TIFF 6.0 has them are read as libtiff reads them, or refused in words."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
Retag = Callable[..., Path]
Write = Callable[..., Path]

BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED, SSHORT, SLONG = 1, 2, 3, 4, 5, 6, 7, 8, 9
FLOAT, DOUBLE, LONG8 = 11, 12, 16


def shorts(*values: int) -> tuple[int, int, bytes]:
    return SHORT, len(values), struct.pack(f"<{len(values)}H", *values)


@pytest.fixture
def scan(write: Write, picture: Callable[..., Picture]) -> Path:
    """Write a small uncompressed scan in tiles."""
    return write(picture(600, 700), tile=(256, 256))


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        (256, (SLONG, 1, struct.pack("<i", 700))),
        (257, (LONG8, 1, struct.pack("<Q", 600))),
        (256, (SHORT, 2, struct.pack("<2H", 700, 700))),
        (258, (SHORT, 1, struct.pack("<H", 8))),
        (258, (BYTE, 3, b"\x08\x08\x08")),
        (258, (LONG, 4, struct.pack("<4I", 8, 8, 8, 8))),
        (259, (LONG, 1, struct.pack("<I", 1))),
        (262, (BYTE, 1, b"\x02")),
        (262, (SSHORT, 1, struct.pack("<h", 2))),
        (277, (SBYTE, 1, b"\x03")),
        (284, (SHORT, 3, struct.pack("<3H", 1, 1, 1))),
        (317, (SHORT, 1, struct.pack("<H", 2))),  # a predictor, which has a meaning beside LZW only
        (339, (SHORT, 3, struct.pack("<3H", 4, 4, 4))),  # samples without a type
        (339, (BYTE, 1, b"\x01")),
        (266, (ASCII, 2, b"1\0")),
        (254, (UNDEFINED, 0, b"")),
        (530, (SHORT, 1, b"\x02")),
        (65000, (99, 3, b"\x01")),
    ],
)
def test_a_tag_of_another_type_or_count_changes_no_pixel(
    scan: Path,
    retag: Retag,
    read: Callable[..., Picture],
    tag: int,
    value: tuple[int, int, bytes],
) -> None:
    expected = read(scan)
    assert np.array_equal(read(retag(scan, {tag: value})), expected)


@pytest.mark.parametrize("compression", ["jpeg", "packbits"])
def test_a_predictor_beside_jpeg_or_packbits_is_ignored(
    write: Write,
    picture: Callable[..., Picture],
    retag: Retag,
    read: Callable[..., Picture],
    compression: str,
) -> None:
    scan = write(picture(600, 700), tile=(256, 256), compression=compression)
    expected = read(scan)
    assert np.array_equal(read(retag(scan, {317: shorts(2)})), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (256, 256)},
        {"rowsperstrip": 64},
        {"rowsperstrip": 600},
        {"tile": (256, 256), "compression": "jpeg"},
        {"rowsperstrip": 64, "compression": "lzw"},
        {"rowsperstrip": 64, "compression": "zlib"},
        {"tile": (256, 256), "planarconfig": "separate"},
    ],
)
def test_missing_byte_counts_are_estimated(
    write: Write,
    picture: Callable[..., Picture],
    retag: Retag,
    read: Callable[..., Picture],
    options: dict[str, Any],
) -> None:
    pixels = picture(600, 700)
    if "planarconfig" in options:
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    scan = write(pixels, photometric="rgb", **options)
    expected = read(scan)
    assert np.array_equal(read(retag(scan, {279: None, 325: None})), expected)


@pytest.mark.parametrize(
    ("tag", "values", "sentence"),
    [
        (256, (ASCII, 4, b"700\0"), "has an image without a width"),
        (256, (SLONG, 1, struct.pack("<i", -700)), "has an image without a width"),
        (257, (SHORT, 2, struct.pack("<2H", 600, 3)), "has an image without a height"),
        (322, (FLOAT, 1, struct.pack("<f", 256)), "has an image without a tile width"),
        (277, (SHORT, 1, b"\0\0"), "whose number of samples is not written yet (0)"),
        (258, (ASCII, 2, b"8\0"), "has pixels of 1 bits a sample"),
        (339, (SHORT, 3, struct.pack("<3H", 3, 3, 3)), "has floating-point or signed pixels"),
        (324, (ASCII, 4, b"abc\0"), "needs 9 blocks, and 0 are listed"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(
    scan: Path, retag: Retag, tag: int, values: tuple[int, int, bytes], sentence: str
) -> None:
    with pytest.raises(SlideError) as refused:
        open_slide(retag(scan, {tag: values}))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("x_resolution", "unit"),
    [
        ((FLOAT, 1, struct.pack("<f", 4000)), shorts(3)),
        ((DOUBLE, 1, struct.pack("<d", 4000)), shorts(3)),
        ((SHORT, 1, struct.pack("<H", 4000)), shorts(3)),
        ((RATIONAL, 1, struct.pack("<2I", 8000, 2)), shorts(3, 3)),
        ((RATIONAL, 1, struct.pack("<2I", 8000, 2)), (ASCII, 3, b"cm\0")),
        ((RATIONAL, 1, struct.pack("<2I", 10160, 1)), (ASCII, 5, b"Inch\0")),
    ],
)
def test_resolution_tags_of_other_types_state_the_resolution(
    scan: Path, retag: Retag, x_resolution: Any, unit: Any
) -> None:
    tags = {270: None, 282: x_resolution, 283: x_resolution, 296: unit}
    with open_slide(retag(scan, tags)) as slide:
        assert slide.metadata.mpp == pytest.approx(2.5)
        assert slide.metadata.magnification == 4.0


@pytest.mark.parametrize(
    "unit", [(ASCII, 4, b"ell\0"), shorts(2, 3), (FLOAT, 1, struct.pack("<f", 3)), shorts()]
)
def test_a_resolution_whose_unit_is_not_understood_is_no_resolution(
    scan: Path, retag: Retag, unit: Any
) -> None:
    resolution = RATIONAL, 1, struct.pack("<2I", 10160, 1)  # 2.5 um/px, were the unit the inch
    scan = retag(scan, {270: None, 282: resolution, 283: resolution, 296: unit})
    with pytest.raises(SlideError, match="has no magnification"):
        open_slide(scan)
    with open_slide(scan, assume_magnification=4) as slide:
        assert slide.metadata.magnification == 4.0


def test_a_thumbnail_in_a_subifd_without_width_is_left_out(
    scan: Path, retag: Retag, read: Callable[..., Picture]
) -> None:
    expected = read(scan)
    at = scan.stat().st_size
    with scan.open("ab") as file:  # a JPEG file of its own, by tags 513 and 514
        entries = [(259, SHORT, 1, 6), (513, LONG, 1, 8), (514, LONG, 1, 100)]
        file.write(struct.pack("<H", 3) + b"".join(struct.pack("<HHII", *e) for e in entries))
        file.write(bytes(4))
    scan = retag(scan, {330: (LONG, 1, struct.pack("<I", at))})
    assert np.array_equal(read(scan), expected)


@pytest.mark.parametrize("where", ["back", "into pixels"])
def test_a_chain_whose_end_leads_astray_ends_there(
    scan: Path, retag: Retag, read: Callable[..., Picture], where: str
) -> None:
    expected = read(scan)
    (first,) = struct.unpack_from("<I", scan.read_bytes(), 4)
    following = {"back": first, "into pixels": 512}[where]
    assert np.array_equal(read(retag(scan, {}, following=following)), expected)
