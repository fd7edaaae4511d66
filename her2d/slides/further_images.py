"""Decide what an image is that is neither the scan, nor a level of it, nor a named picture.

It may be another area of the glass that was scanned. One area alone does not give the HER2 status,
so a file of several is refused. It may also be a macro, a label or a mask that nobody named.
Refusing those would refuse many sound files; they are left out, and the result says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.slides.agreement import BlockComparison
from her2d.slides.images import Image
from her2d.slides.level_shape import samples
from her2d.slides.metadata import UM_PX_AT_1X, read_description, resolution_mpp
from her2d.slides.page_resolution import page_resolution

_ANOTHER_AREA = 1 / 10  # of the scan's pixels; a macro that is stored like the scan has fewer
_ANOTHER_AREA_IN_STRIPS = 1 / 3  # labels and macros are in strips too
_ANOTHER_LISTED_AREA = 1 / 64  # where OME-XML says that both have pixels of one size
_LEAST_AREA = 1 << 16  # pixels; at 4x less than a quarter of a tile
_SAME_PIXEL_SIZE = 1.5
_OVERVIEW = 3.0  # an image whose pixels are larger by more is an overview or a macro
_GLASS_SLIDE = (2.4, 3.4)  # length by width of macros; a slide has 75 mm by 25 or 26 mm
_MACRO_SIDE = 6000  # pixels along the longer side; macros have up to 5000

_GLASS = 215  # grey values; a pixel whose channels are all above is bare glass
_BLACK = 50  # ink of a label and edges of a macro; stained tissue is lighter in some channel
_TINT = 20  # between channels of stained tissue; paler tissue is compared with the scan's
_LEAST_TISSUE = 0.02  # of the pixels that are looked at
_MOST_BLACK, _LEAST_TINTED = 0.03, 0.6  # of the pixels that are not glass
_LIKE_THE_SCAN = 12  # grey values between differences of channels
_STRUCTURE = 4.0  # grey values, standard deviation; a uniform surface is not tissue
_STEP = 4  # every fourth pixel along each side is looked at


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the pixels of two images are; None where the file does not say it.

    Attributes:
        scan_um, image_um: micrometres per pixel.
    """

    scan_um: float | None
    image_um: float | None

    @property
    def is_same(self) -> bool:
        """Whether both are stated and alike, as of two areas that were scanned alike."""
        return self._ratio is not None and 1 / _SAME_PIXEL_SIZE <= self._ratio <= _SAME_PIXEL_SIZE

    @property
    def differs(self) -> bool:
        """Whether both are stated and not alike."""
        return self._ratio is not None and not self.is_same

    @property
    def is_overview(self) -> bool:
        """Whether both are stated and the image is much coarser than the scan."""
        return self._ratio is not None and self._ratio > _OVERVIEW

    @property
    def _ratio(self) -> float | None:
        if self.scan_um is None or self.image_um is None:
            return None
        return self.image_um / self.scan_um


def stated_scale(base: Image, image: Image) -> Scale:
    """Return the scale that the two pages state themselves, by description or resolution tags."""
    return Scale(_stated_um(base), _stated_um(image))


def is_another_area(fd: int, base: Image, image: Image, scale: Scale) -> bool:
    """Return whether an unexplained image is another scanned area rather than a picture.

    Args:
        fd: descriptor of the file.
        base: the scan. Its file must still be open in tifffile.
        image: which is no level of the scan, no focal plane, and has no name.
        scale: of both.

    Raises:
        OSError: the storage failed.
    """
    if samples(image.page) != samples(base.page) or scale.is_overview:
        return False
    if _is_large_beside(base, image):
        return True
    if image.area < _LEAST_AREA:
        return False
    if scale.differs:
        return False
    if not scale.is_same and (not _is_stored_alike(base, image) or _has_shape_of_macro(image)):
        return False
    return _shows_tissue(fd, base, image)


def is_another_listed_area(fd: int, base: Image, image: Image, scale: Scale) -> bool:
    """Return whether an image that OME-XML lists beside the scan is another scanned area.

    Args and errors are those of `is_another_area`; the scale is what the XML states.
    """
    if scale.is_same and image.area >= _ANOTHER_LISTED_AREA * base.area:
        return True
    if not scale.is_overview and image.area >= _ANOTHER_AREA * base.area:
        return True
    if scale.scan_um is not None and scale.image_um is None:
        return False  # programs that state the scan's pixels leave out those of a label or macro
    return is_another_area(fd, base, image, scale)


def unread_pictures(images: Sequence[Image]) -> str | None:
    """Return a clause that says which pictures were left out; None where none was."""
    if not images:
        return None
    sizes = ["{} x {}".format(*image.size) for image in sorted(images, key=_area, reverse=True)]
    if len(sizes) == 1:
        return f"1 further picture of {sizes[0]} was not read"
    if len(sizes) == 2:
        return f"2 further pictures of {sizes[0]} and {sizes[1]} were not read"
    return f"{len(sizes)} further pictures, the largest of {sizes[0]}, were not read"


def _area(image: Image) -> int:
    return image.area


def _stated_um(image: Image) -> float | None:
    description = read_description(image.description)
    if description.mpp is not None:
        return description.mpp
    if description.magnification is not None:
        return UM_PX_AT_1X / description.magnification
    resolution = page_resolution(image.page)
    if resolution is None:
        return None
    return resolution_mpp(resolution, description.resolution_unit_um)


def _is_large_beside(base: Image, image: Image) -> bool:
    """Return whether an image is too large, and stored too much alike, to be a macro."""
    first, other = base.directory, image.directory
    share = _ANOTHER_AREA if first.tiled else _ANOTHER_AREA_IN_STRIPS
    return (
        other.tiled == first.tiled
        and other.compression == first.compression
        and image.area >= share * base.area
    )


def _is_stored_alike(base: Image, image: Image) -> bool:
    """Return whether one program seems to have written both images as scans, in equal tiles."""
    first, other = base.directory, image.directory
    if not (first.tiled and other.tiled):
        return False
    if image.area >= _ANOTHER_AREA * base.area:
        return True
    return (first.block_width, first.block_height, first.compression) == (
        other.block_width,
        other.block_height,
        other.compression,
    )


def _has_shape_of_macro(image: Image) -> bool:
    short, long = sorted(image.size)
    return long <= _MACRO_SIDE and _GLASS_SLIDE[0] <= long / short <= _GLASS_SLIDE[1]


def _shows_tissue(fd: int, base: Image, image: Image) -> bool:
    """Return whether an image looks like stained tissue on glass, not like a label or a macro.

    Most of what is not glass is coloured, as eosin, haematoxylin and DAB are, or as pale as the
    scan's own tissue. Labels and macros have ink, paper, and the grey and black edges of the glass.
    """
    covered = _not_glass(fd, image)
    if covered is None:
        return False
    if float((covered.max(axis=-1) < _BLACK).mean()) > _MOST_BLACK:
        return False
    if float(covered.mean(axis=-1).std()) < _STRUCTURE:
        return False
    tinted = covered.max(axis=-1) - covered.min(axis=-1) >= _TINT
    of_scan = _not_glass(fd, base)
    if of_scan is not None:
        hue = np.median(_differences(of_scan), axis=0)
        tinted |= (np.abs(_differences(covered) - hue) <= _LIKE_THE_SCAN).all(axis=-1)
    return float(tinted.mean()) >= _LEAST_TINTED


def _differences(pixels: NDArray[np.int16]) -> NDArray[np.int16]:
    return pixels[..., :2] - pixels[..., 1:]


def _not_glass(fd: int, image: Image) -> NDArray[np.int16] | None:
    """Return some pixels (n, 3) of an image that are not glass; None where there are too few."""
    windows = BlockComparison(fd, image).windows()
    if not windows:
        return None
    pixels = np.concatenate([part[::_STEP, ::_STEP].reshape(-1, 3) for part in windows])
    covered = pixels[pixels.min(axis=-1) < _GLASS].astype(np.int16)
    return covered if len(covered) > _LEAST_TISSUE * len(pixels) else None
