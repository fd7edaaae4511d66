"""Read the barcode of a scan that has no result, so that a laboratory system knows whose it is."""

import os
from pathlib import Path

from her2d.slides.errors import SlideError, slide_errors
from her2d.slides.images import image_of, tifffile_on
from her2d.slides.integrity import open_regular
from her2d.slides.label import with_label_barcode
from her2d.slides.metadata import read_description
from her2d.slides.reader import open_slide
from her2d.slides.structure import read_structure
from her2d.system.loggers import get_logger

log = get_logger(__name__)

_ANY_MAGNIFICATION = 40.0


def barcode_of_file(path: Path) -> str | None:
    """Return a scan's barcode, also if the scan cannot be scored; None if it cannot be read.

    It is that of the description or the label, as for a slide that is scored. Of a file that is
    refused, the first that a description states. Nothing is raised, because the file has failed
    already, and why is more important than whose it is.
    """
    for read in (_barcode_of_slide, _stated_barcode):
        try:
            return read(path)
        except SlideError:
            continue
        except Exception:
            log.info("barcode_not_read", exc_info=True)
            return None
    return None


def _barcode_of_slide(path: Path) -> str | None:
    with open_slide(path, assume_magnification=_ANY_MAGNIFICATION) as slide:
        return with_label_barcode(slide).barcode


def _stated_barcode(path: Path) -> str | None:
    with slide_errors(path):
        fd = open_regular(path)
        try:
            directories = read_structure(fd)
            with tifffile_on(fd, directories) as tiff:
                for index, directory in enumerate(directories):
                    text = image_of(tiff, index, directory).description
                    if (barcode := read_description(text).barcode) is not None:
                        return barcode
        finally:
            os.close(fd)
    return None
