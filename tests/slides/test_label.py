"""The barcode on the label image is read where the file has none, and compared where it has one."""

import struct
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import zxingcpp
from numpy.typing import NDArray

from her2d.slides.errors import SlideError
from her2d.slides.label import with_label_barcode
from her2d.slides.metadata import BarcodeSource, SlideMetadata, barcodes_differ
from her2d.slides.reader import open_slide

Picture = NDArray[np.uint8]
WriteScan = Callable[..., Path]


def symbol(
    text: str, kind: zxingcpp.BarcodeFormat = zxingcpp.DataMatrix, scale: int = 4
) -> Picture:
    return np.array(zxingcpp.create_barcode(text, kind).to_image(scale=scale))


def label_with(*symbols: Picture, paper: int = 245) -> Picture:
    """Return a label with symbols one below the other, and some writing."""
    height = 80 + sum(bars.shape[0] + 30 for bars in symbols)
    width = 60 + max((bars.shape[1] for bars in symbols), default=200)
    label = np.full((height, width), paper, np.uint8)
    cv2.putText(label, "Stomach 7 H&E", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 30, 1)
    y = 60
    for bars in symbols:
        label[y : y + bars.shape[0], 30 : 30 + bars.shape[1]] = np.minimum(bars, paper)
        y += bars.shape[0] + 30
    return np.repeat(label[..., None], 3, axis=-1)


@pytest.fixture
def write_scan(tmp_path: Path) -> WriteScan:
    """Write a 4x scan with a label image, in a file that states `barcode`."""

    def make(label: Picture, *, barcode: str = "") -> Path:
        path = tmp_path / "scan.tif"
        field = f"|Barcode = {barcode}" if barcode else ""
        with tifffile.TiffWriter(path) as tiff:
            tiff.write(
                np.full((600, 600, 3), 200, np.uint8),
                tile=(256, 256),
                photometric="rgb",
                compression="zlib",
                description=f"Motic V1.0.0\n600x600|AppMag = 4|MPP = 2.5{field}",
                metadata=None,
            )
            height, width = label.shape[:2]
            tiff.write(
                label,
                photometric="rgb",
                compression="lzw",
                description=f"Motic V1.0.0\nlabel {width}x{height}",
                metadata=None,
            )
        return path

    return make


def metadata_of(path: Path) -> SlideMetadata:
    with open_slide(path) as slide:
        return with_label_barcode(slide)


KINDS = (
    zxingcpp.DataMatrix,
    zxingcpp.QRCode,
    zxingcpp.Aztec,
    zxingcpp.PDF417,
    zxingcpp.Code128,
    zxingcpp.Code93,
    zxingcpp.Code39,
)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_barcode_on_the_label_is_the_slides_where_the_file_states_none(
    write_scan: WriteScan, kind: zxingcpp.BarcodeFormat
) -> None:
    metadata = metadata_of(write_scan(label_with(symbol("S26-900444", kind))))
    assert metadata.barcode == metadata.label_barcode == "S26-900444"
    assert metadata.barcode_source is BarcodeSource.LABEL


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_label_is_read_in_every_orientation(write_scan: WriteScan, turns: int) -> None:
    label = np.ascontiguousarray(np.rot90(label_with(symbol("900444", zxingcpp.Code128)), turns))
    assert metadata_of(write_scan(label)).barcode == "900444"


def test_a_photograph_of_low_contrast_and_resolution_is_read(write_scan: WriteScan) -> None:
    label = cv2.GaussianBlur(label_with(symbol("900444", scale=2), paper=180), (0, 0), 0.7)
    noise = np.random.default_rng(0).normal(0, 6, label.shape)
    assert metadata_of(write_scan((label // 2 + 60 + noise).astype(np.uint8))).barcode == "900444"


@pytest.mark.parametrize("text", ["900444", "S26;900444;HE"])
def test_a_label_that_agrees_with_the_file_changes_nothing(
    write_scan: WriteScan, text: str
) -> None:
    metadata = metadata_of(write_scan(label_with(symbol(text)), barcode="900444"))
    assert (metadata.barcode, metadata.label_barcode) == ("900444", text)
    assert metadata.barcode_source is BarcodeSource.DESCRIPTION
    assert not barcodes_differ(metadata.barcode, metadata.label_barcode)


def test_a_label_that_names_another_slide_is_kept_beside_the_stated_barcode(
    write_scan: WriteScan,
) -> None:
    metadata = metadata_of(write_scan(label_with(symbol("900445")), barcode="900444"))
    assert (metadata.barcode, metadata.label_barcode) == ("900444", "900445")
    assert barcodes_differ(metadata.barcode, metadata.label_barcode)


def test_of_several_barcodes_on_a_label_none_is_the_slides(write_scan: WriteScan) -> None:
    label = label_with(symbol("900444"), symbol("900445"))
    assert metadata_of(write_scan(label)).barcode is None


def test_of_several_barcodes_on_a_label_the_one_that_the_file_states_counts(
    write_scan: WriteScan,
) -> None:
    label = label_with(symbol("LOT 77"), symbol("900444"))
    assert metadata_of(write_scan(label, barcode="900444")).label_barcode == "900444"
    other = metadata_of(write_scan(label, barcode="1"))
    assert other.label_barcode == "900444; LOT 77"
    assert barcodes_differ(other.barcode, other.label_barcode)


def test_a_short_barcode_is_not_found_within_a_longer_one() -> None:
    assert barcodes_differ("1", "12345")
    assert not barcodes_differ(None, "12345")
    assert not barcodes_differ("12345", None)


def test_a_barcode_with_control_characters_is_kept_whole_and_printable(
    write_scan: WriteScan,
) -> None:
    metadata = metadata_of(write_scan(label_with(symbol("0104\x1d17\x1b[31m"))))
    assert metadata.barcode == "0104\\x1d17\\x1b[31m"


@pytest.mark.parametrize("content", ["blank", "noise", "bars", "large"])
def test_a_label_without_a_barcode_is_no_barcode(write_scan: WriteScan, content: str) -> None:
    rng = np.random.default_rng(1)
    label = {
        "blank": np.full((300, 300, 3), 250, np.uint8),
        "noise": rng.integers(0, 255, (400, 400, 3), dtype=np.uint8),
        "bars": np.tile(rng.choice(np.uint8([20, 250]), 300)[None, :, None], (200, 1, 3)),
        "large": np.full((4200, 4200, 3), 250, np.uint8),  # of more pixels than are decoded
    }[content]
    metadata = metadata_of(write_scan(label))
    assert (metadata.barcode, metadata.label_barcode) == (None, None)


def test_a_label_that_cannot_be_decoded_never_fails_the_slide(write_scan: WriteScan) -> None:
    path = write_scan(label_with(symbol("900444")), barcode="7")
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[1]
        data = bytearray(path.read_bytes())
        for offset in page.dataoffsets:
            data[offset : offset + 8] = struct.pack("<Q", 2**63 - 1)
    path.write_bytes(data)
    with open_slide(path) as slide:
        with pytest.raises(SlideError):
            slide.associated_images["label"]
        assert with_label_barcode(slide) == slide.metadata
