"""Each way in which a file can be incomplete or broken is found from its structure alone."""

import os
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.grid import UnreadableTile
from her2d.slides.integrity import Completeness, Missing, check_integrity
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]

KINDS: dict[str, dict[str, Any]] = {
    "tiled JPEG": {"tile": (256, 256), "compression": "jpeg"},
    "stripped LZW": {"rowsperstrip": 64, "compression": "lzw"},
    "uncompressed": {"tile": (256, 256)},
    "BigTIFF": {"tile": (256, 256), "compression": "zlib", "bigtiff": True},
    "big-endian": {"tile": (256, 256), "compression": "zlib", "byteorder": ">"},
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def scan(
    request: pytest.FixtureRequest, write: Callable[..., Path], picture: Callable[..., Picture]
) -> Path:
    """Write a small complete scan of each kind."""
    return write(picture(600, 700), **request.param)


def cut(path: Path, size: int) -> Path:
    shortened = path.with_name("cut.tif")
    shortened.write_bytes(path.read_bytes()[:size])
    return shortened


def test_a_whole_file_is_complete(scan: Path) -> None:
    assert check_integrity(scan).completeness is Completeness.COMPLETE
    assert check_integrity(scan).reason is None


def test_a_file_cut_anywhere_is_incomplete_and_refused_or_lacks_tiles(scan: Path) -> None:
    size = scan.stat().st_size
    rng = random.Random(5)
    sizes = {*range(40), *(rng.randrange(size) for _ in range(60)), size - 2, size - 1}
    for shorter in sizes:
        path = cut(scan, shorter)
        found = check_integrity(path)
        assert found.completeness is Completeness.INCOMPLETE, shorter
        assert found.reason
        if found.missing is Missing.BLOCKS:
            with open_slide(path) as slide:
                assert any(isinstance(tile, UnreadableTile) for tile in slide.tiles())
        else:
            with pytest.raises(SlideError):
                open_slide(path)


def test_a_copy_into_preallocated_space_is_incomplete(
    write: Callable[..., Path], picture: Callable[..., Picture]
) -> None:
    scan = write(picture(2000, 2000), tile=(256, 256), compression="jpeg")
    data = scan.read_bytes()
    for share in (0.0, 0.001, 0.1, 0.5, 0.9, 0.97):
        done = int(len(data) * share)
        scan.write_bytes(data[:done] + bytes(len(data) - done))
        assert check_integrity(scan).completeness is Completeness.INCOMPLETE, share


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"P",
        b"%PDF-1.7 and so on",
        b"II\x2b\x00\x07\x00\x00\x00" + bytes(20),
        b"MM\x00\x2c\x00\x00\x00\x08" + bytes(20),
    ],
)
def test_what_is_not_a_tiff_is_broken(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "renamed.tif"
    path.write_bytes(content)
    found = check_integrity(path)
    assert found.completeness is Completeness.BROKEN
    assert "is not a TIFF file" in str(found.reason)
    with pytest.raises(SlideError, match="is not a TIFF file"):
        open_slide(path)


@pytest.mark.parametrize(
    "content", [b"", bytes(5), bytes(100_000), b"I", b"II*\0", b"II*\0\0\0\0\0"]
)
def test_the_beginning_of_a_tiff_is_incomplete(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "new.tif"
    path.write_bytes(content)
    assert check_integrity(path).completeness is Completeness.INCOMPLETE


def directory(entries: list[tuple[int, int, int, int]], following: int) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", following)


IMAGE = [(256, 4, 1, 16), (257, 4, 1, 16), (278, 4, 1, 16), (273, 4, 1, 8), (279, 4, 1, 1)]


def tiff(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    return b"II*\0\x10\0\0\0" + bytes(8) + directory(entries, following)


def changed(tag: int, *values: int) -> list[tuple[int, int, int, int]]:
    return [(tag, *values) if entry[0] == tag else entry for entry in IMAGE]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "completeness", "reason"),
    [
        (tiff(IMAGE), Completeness.COMPLETE, "None"),
        # As in libtiff, a chain ends where it leads back, and a SubIFD counts once.
        (tiff(IMAGE, following=16), Completeness.COMPLETE, "None"),
        (tiff([*IMAGE, (330, 4, 1, 16)]), Completeness.COMPLETE, "None"),
        (tiff([*IMAGE, (330, 4, 1, 0)]), Completeness.COMPLETE, "None"),
        (tiff(IMAGE, following=10**6), Completeness.INCOMPLETE, "cut short"),
        (tiff(changed(273, 4, 1, 10**6)), Completeness.INCOMPLETE, "beyond the file's end"),
        (tiff(changed(279, 4, 1, 2**32 - 1)), Completeness.INCOMPLETE, "beyond the file's end"),
        (tiff(changed(279, 4, 1, 0)), Completeness.INCOMPLETE, "no block yet"),
        (tiff(changed(273, 4, 1, 0)), Completeness.INCOMPLETE, "no block yet"),
        (tiff(changed(257, 4, 1, 0)), Completeness.INCOMPLETE, "height is not written"),
        (tiff(changed(256, 4, 1, 2**32 - 1)), Completeness.BROKEN, "no slide is that large"),
        (tiff(changed(278, 4, 1, 4)), Completeness.BROKEN, "needs 4 blocks, and 1 are listed"),
        (tiff(changed(273, 4, 2**31, 8)), Completeness.INCOMPLETE, "tag 273 lies beyond"),
        (tiff(IMAGE[1:]), Completeness.BROKEN, "without a width"),
        (tiff([*IMAGE, (270, 2, 10**9, 0)]), Completeness.INCOMPLETE, "tag 270"),
        (tiff([(0, 0, 0, 0)] * 4), Completeness.INCOMPLETE, "not all written"),
        (b"II*\0\x08\0\0\0" + bytes(100), Completeness.INCOMPLETE, "empty image directory"),
    ],
)
def test_each_defect_is_named(
    content: bytes, completeness: Completeness, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "made.tif"
    path.write_bytes(content)
    found = check_integrity(path)
    assert found.completeness is completeness, found
    assert reason in str(found.reason)


def test_a_chain_of_thousands_of_directories_is_broken(tmp_path: Path) -> None:
    size = len(directory(IMAGE, 0))
    chain = b"".join(directory(IMAGE, 16 + size * (n + 1)) for n in range(2000))
    path = tmp_path / "chain.tif"
    path.write_bytes(b"II*\0\x10\0\0\0" + bytes(8) + chain)
    found = check_integrity(path)
    assert found.completeness is Completeness.BROKEN
    assert "more than 1024" in str(found.reason)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    head=st.sampled_from([b"", b"II*\0", b"MM\0*", b"II*\0\x08\0\0\0", b"II+\0\x08\0\0\0"]),
    tail=st.binary(max_size=300),
)
def test_arbitrary_bytes_never_make_it_raise(head: bytes, tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.tif"
    path.write_bytes(head + tail)
    assert check_integrity(path).completeness is not Completeness.COMPLETE
    with pytest.raises(SlideError):
        open_slide(path)


def test_what_is_not_a_regular_file_is_broken_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder.tif").mkdir()
    os.mkfifo(tmp_path / "pipe.tif")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s.tif"))
        for path in tmp_path.iterdir():
            found = check_integrity(path)
            assert found.completeness is Completeness.BROKEN
            assert found.reason == "is not a regular file"
            with pytest.raises(SlideError, match="is not a regular file"):
                open_slide(path)


def test_a_file_that_is_not_there_may_come_back(tmp_path: Path) -> None:
    found = check_integrity(tmp_path / "gone.tif")
    assert (found.completeness, found.missing) == (Completeness.INCOMPLETE, Missing.ACCESS)
    assert "No such file" in str(found.reason)
