"""Read the barcode that is printed on the label image of a slide.

Most scanners photograph the label, and few write what its barcode says into the file.
"""

import logging
import math
from dataclasses import replace

import cv2
import numpy as np
import zxingcpp
from numpy.typing import NDArray

from her2d.slides.metadata import (
    BarcodeSource,
    SlideMetadata,
    barcodes_differ,
    recorded_barcode,
)
from her2d.slides.protocol import Slide
from her2d.system.shortage import is_own_shortage

_log = logging.getLogger(__name__)

# Those that pathology labels bear and that hardly appear by chance: two-dimensional codes correct
# their errors, Code 128 and 93 have a check digit, Code 39 has start and stop characters. Codabar
# and Interleaved 2 of 5 are left out, because handwriting can look like them.
_FORMATS = [
    zxingcpp.DataMatrix,
    zxingcpp.QRCode,
    zxingcpp.MicroQRCode,
    zxingcpp.Aztec,
    zxingcpp.PDF417,
    zxingcpp.Code128,
    zxingcpp.Code93,
    zxingcpp.Code39,
]
_MOST_STORED_PIXELS = 1 << 24  # 48 MiB; the labels of scanners have less than 2 ** 22
_MOST_PIXELS = 1 << 22  # searched in under half a second in the worst case
_SMALL_PIXELS = 1 << 18


def with_label_barcode(slide: Slide) -> SlideMetadata:
    """Return the slide's metadata with the barcode on its label.

    That barcode becomes the slide's where the file states none, unless the label has several.
    A label that cannot be read is a label without a barcode: nothing is raised for it, unless this
    process lacks memory or the like.
    """
    metadata = slide.metadata
    try:
        found = label_barcodes(slide)
    except Exception as error:
        if is_own_shortage(error):
            raise  # a later attempt reads the label
        # A label is never worth a slide.
        _log.info("slide_label_not_read", exc_info=True)
        return metadata
    if metadata.barcode is not None:
        same = [text for text in found if not barcodes_differ(metadata.barcode, text)]
        return replace(metadata, label_barcode=same[0] if same else "; ".join(found) or None)
    if len(found) != 1:
        return metadata
    return replace(
        metadata, barcode=found[0], barcode_source=BarcodeSource.LABEL, label_barcode=found[0]
    )


def label_barcodes(slide: Slide) -> list[str]:
    """Return the different texts of the barcodes on the slide's label image, sorted.

    Raises:
        SlideError: the label image cannot be decoded.
        SlideUnavailableError: the storage failed.
    """
    if "label" not in slide.associated_images:
        return []
    sides = (slide.properties[f"openslide.associated.label.{side}"] for side in ("width", "height"))
    if math.prod(map(int, sides)) > _MOST_STORED_PIXELS:
        return []
    grey = cv2.cvtColor(slide.associated_images["label"], cv2.COLOR_RGB2GRAY)
    return _read(_of_bounded_size(np.asarray(grey, np.uint8)))


def _of_bounded_size(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shrink a large label, and enlarge a small one, whose bars may be one pixel wide."""
    pixels = grey.size
    if pixels <= _SMALL_PIXELS:
        return np.asarray(cv2.resize(grey, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    if pixels > _MOST_PIXELS:
        scale = math.sqrt(_MOST_PIXELS / pixels)
        size = [max(1, int(side * scale)) for side in reversed(grey.shape)]
        return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA))
    return grey


def _read(grey: NDArray[np.uint8]) -> list[str]:
    found = zxingcpp.read_barcodes(
        grey, formats=zxingcpp.BarcodeFormats(_FORMATS), text_mode=zxingcpp.TextMode.Plain
    )
    texts = (recorded_barcode(barcode.text.strip()) for barcode in found if barcode.valid)
    return sorted({text for text in texts if text is not None})
