"""`check_integrity` tells complete slides from incomplete and broken files."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from her2d.slides.errors import SlideError
from her2d.slides.integrity import Completeness, check_integrity
from her2d.slides.reader import open_slide


def slide(path: Path, **options: Any) -> Path:
    image = np.random.default_rng(0).integers(0, 255, (1100, 1300, 3), np.uint8)
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as tiff:
        for step in (1, 2):
            tiff.write(
                image[::step, ::step],
                photometric="rgb",
                description="AppMag = 4|MPP = 2.5",
                metadata=None,
                **options,
            )
    return path


LAYOUTS: list[dict[str, Any]] = [
    {"tile": (256, 256), "compression": "jpeg"},
    {"tile": (512, 512), "compression": "deflate", "bigtiff": True},
    {"rowsperstrip": 64, "compression": "lzw"},
    {"rowsperstrip": 64},
]


@pytest.mark.parametrize("options", LAYOUTS)
def test_a_whole_slide_is_complete(tmp_path: Path, options: dict[str, Any]) -> None:
    found = check_integrity(slide(tmp_path / "a.tif", **options))
    assert (found.completeness, found.reason) == (Completeness.COMPLETE, None)


@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("cut", [1, 10, 1000, 100_000])
def test_a_slide_without_its_end_is_incomplete(
    tmp_path: Path, options: dict[str, Any], cut: int
) -> None:
    path = slide(tmp_path / "a.tif", **options)
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)])
    found = check_integrity(path)
    # tifffile pads the end of a file to a word, so the last byte may belong to no block.
    if cut > 1:
        assert found.completeness is Completeness.INCOMPLETE
        assert found.reason


@settings(max_examples=60)
@given(share=st.floats(0, 0.99))
def test_a_slide_cut_off_anywhere_is_never_complete(
    tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    path = slide(tmp_path_factory.mktemp("cut") / "a.tif", tile=(256, 256))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert check_integrity(path).completeness is Completeness.INCOMPLETE


def test_an_empty_or_all_zero_file_is_still_being_written(tmp_path: Path) -> None:
    for data in (b"", b"\0" * 5000):
        (tmp_path / "a.tif").write_bytes(data)
        assert check_integrity(tmp_path / "a.tif").completeness is Completeness.INCOMPLETE


@pytest.mark.parametrize(
    "data", [b"\x89PNG\r\n\x1a\n" * 20, b"%PDF-1.7 and so on", b"\xff\xd8\xff"]
)
def test_another_format_is_broken(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    found = check_integrity(tmp_path / "a.tif")
    assert found.completeness is Completeness.BROKEN
    assert found.reason


def test_a_loop_of_directories_is_broken(tmp_path: Path) -> None:
    entry = struct.pack("<HHII", 256, 4, 1, 10)
    ifd = struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", 8) + ifd)
    assert check_integrity(tmp_path / "a.tif").completeness is Completeness.BROKEN


def test_a_missing_file_is_not_complete(tmp_path: Path) -> None:
    assert check_integrity(tmp_path / "absent.tif").completeness is not Completeness.COMPLETE


@pytest.mark.slow
@settings(max_examples=150)
@given(
    flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), min_size=1, max_size=100),
    layout=st.sampled_from(LAYOUTS),
    structure=st.booleans(),
)
def test_flipped_bytes_end_in_tiles_or_a_reason(
    tmp_path_factory: pytest.TempPathFactory,
    flips: list[tuple[float, int]],
    layout: dict[str, Any],
    structure: bool,
) -> None:
    path = slide(tmp_path_factory.mktemp("flip") / "a.tif", **dict(layout))
    data = bytearray(path.read_bytes())
    # In half of the examples only the header, the directories and their arrays change.
    reach = min(len(data), 3000) if structure else len(data)
    for share, bits in flips:
        data[int(share * reach)] ^= bits
    path.write_bytes(data)
    check_integrity(path)
    try:
        with open_slide(path, assume_magnification=4.0) as opened:
            places = [(tile.column, tile.row) for tile in opened.tiles()]
    except SlideError:
        return
    grid = opened.grid
    assert len(places) == len(set(places)) == grid.columns * grid.rows
