"""Convert the samples of a block to 8-bit RGB.

The conversion is chosen once per image. A format without a faithful conversion is refused before
any block is read. Of 16-bit samples the high byte is kept. Transparent pixels are laid over white,
which is how a slide looks under a microscope.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from her2d.slides.errors import RefusedError

Samples = NDArray[Any]  # uint8 or uint16
ToRGB = Callable[[Samples], NDArray[np.uint8]]

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_NAMES = {4: "a mask", 5: "CMYK", 8: "CIE L*a*b*"}
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples, tag 338
_COLOR_MAP = 320
_JPEG, _APERIO_J2K_YCBCR = 7, 33003


def rgb_converter(page: TiffPage) -> ToRGB:
    """Return the conversion for the blocks of an image.

    Args:
        page: tifffile's reading of the image's tags.

    Returns:
        A function from samples, uint8 or uint16 (h, w, samples), to uint8 (h, w, 3) RGB.

    Raises:
        RefusedError: the pixel format has no faithful conversion.
    """
    bits, samples = page.bitspersample, page.samplesperpixel
    if page.sampleformat != 1:
        raise RefusedError("has floating-point or signed pixels, not the 8 or 16 bits of a scan")
    if bits not in (8, 16):
        raise RefusedError(f"has pixels of {bits} bits a sample; 8 and 16 can be read")
    photometric = page.photometric
    if photometric == _PALETTE and samples == 1 and bits == 8:
        return _palette(_color_map(page))
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and samples in (1, 2):
        return _grey(_alpha(page, samples == 2), inverted=photometric == _WHITE_IS_ZERO)
    if samples in (3, 4) and photometric in (_RGB, _YCBCR):
        return _color(page)
    kind = _NAMES.get(photometric, f"of photometric kind {int(photometric)}")
    raise RefusedError(f"has an image that is {kind} with {samples} samples, which cannot be read")


def _color(page: TiffPage) -> ToRGB:
    ycbcr = page.photometric == _YCBCR
    if page.compression == _APERIO_J2K_YCBCR and page.samplesperpixel == 3:
        return _from_ycbcr
    # JPEG's decoder converts to RGB. Other YCbCr pixels would need TIFF tags 529 to 532.
    if ycbcr and page.compression != _JPEG:
        raise RefusedError("has YCbCr pixels outside JPEG, which cannot be read")
    if page.compression == _JPEG and page.samplesperpixel == 4:
        raise RefusedError("has four-component JPEG pixels, which cannot be read")
    return _rgb(_alpha(page, page.samplesperpixel == 4))


def _alpha(page: TiffPage, present: bool) -> int:
    """Return the kind of alpha (tag 338), or 0 where there is none or its meaning is not stated."""
    kinds = tuple(page.extrasamples)
    return int(kinds[0]) if present and kinds else 0


def _rgb(alpha: int) -> ToRGB:
    def convert(samples: Samples) -> NDArray[np.uint8]:
        pixels = _eight_bits(samples)
        return np.ascontiguousarray(_over_white(pixels[..., :3], pixels[..., 3:], alpha))

    return convert


def _grey(alpha: int, *, inverted: bool) -> ToRGB:
    def convert(samples: Samples) -> NDArray[np.uint8]:
        pixels = _eight_bits(samples)
        grey = 255 - pixels[..., :1] if inverted else pixels[..., :1]
        return np.repeat(_over_white(grey, pixels[..., 1:], alpha), 3, axis=-1)

    return convert


def _palette(table: NDArray[np.uint8]) -> ToRGB:
    def convert(samples: Samples) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = table[samples[..., 0]]
        return pixels

    return convert


def _from_ycbcr(samples: Samples) -> NDArray[np.uint8]:
    """Convert full-range YCbCr of ITU-R BT.601, as in JPEG; OpenCV wants Y, Cr, Cb."""
    ycrcb = np.ascontiguousarray(_eight_bits(samples)[..., [0, 2, 1]])
    return np.asarray(cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB), np.uint8)


def _eight_bits(samples: Samples) -> NDArray[np.uint8]:
    return np.asarray(samples if samples.dtype == np.uint8 else samples >> 8, np.uint8)


def _over_white(color: NDArray[np.uint8], alpha: NDArray[np.uint8], kind: int) -> NDArray[np.uint8]:
    if kind not in (_ASSOCIATED, _UNASSOCIATED) or alpha.min(initial=255) == 255:
        return color
    opacity = alpha.astype(np.uint32)
    # Associated colour has already been multiplied by its opacity (TIFF 6.0, section 18).
    part = color.astype(np.uint32) * (opacity if kind == _UNASSOCIATED else 255)
    over = np.minimum(part + 255 * (255 - opacity), 255 * 255)
    return np.asarray((over + 127) // 255, np.uint8)


def _color_map(page: TiffPage) -> NDArray[np.uint8]:
    """Return ColorMap (tag 320) as uint8 (256, 3) RGB.

    The tag holds 256 reds, then greens, then blues, of 16 bits each.
    """
    tag = page.tags.get(_COLOR_MAP)
    values = np.asarray(tag.value if tag is not None else ()).reshape(-1)
    if values.size != 3 * 256 or values.dtype.kind not in "iu":
        raise RefusedError("has palette pixels without a colour map")
    # Some programs write 8-bit values; libtiff's tools recognise them by the same rule.
    scaled = values if values.max() < 256 else values >> 8
    return np.ascontiguousarray(scaled.reshape(3, 256).T).astype(np.uint8)
