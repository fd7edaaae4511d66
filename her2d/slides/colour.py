"""Convert the samples of a block to 8-bit RGB.

The conversion is chosen once per image. A format without a faithful conversion is refused before
any block is read. Of samples with more bits the upper 8 that are in use are kept. Transparent
pixels are laid over white, which is how a slide looks under a microscope.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from tifffile import TiffPage

from her2d.slides.block_format import Samples
from her2d.slides.errors import RefusedError

ToRGB = Callable[[Samples], NDArray[np.uint8]]

_WHITE_IS_ZERO, _BLACK_IS_ZERO, RGB, _PALETTE, YCBCR = 0, 1, 2, 3, 6
_NAMES = {4: "a mask", 5: "CMYK", 8: "CIE L*a*b*"}
_UNSIGNED, _UNDEFINED = 1, 4  # SampleFormat, tag 339; libtiff takes the second for the first
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples, tag 338
_MAX_SAMPLE_VALUE, _COLOR_MAP = 281, 320
_DEPTHS = (8, 10, 12, 14, 16)  # bits of the cameras whose values are stored in 16


def significant_bits(page: TiffPage) -> int:
    """Return how many bits of a sample are in use, as MaxSampleValue (tag 281) states.

    The tag may hold what a camera can give or the largest value of one scan, so it is brought to
    the next number of bits that cameras have.

    Args:
        page: tifffile's reading of the image's tags.
    """
    bits = int(page.bitspersample)
    stated = np.asarray(page.tags.valueof(_MAX_SAMPLE_VALUE, default=0))
    if bits != 16 or stated.dtype.kind not in "iu" or not 0 < stated.max(initial=0) < 2**16:
        return bits
    return next(depth for depth in _DEPTHS if stated.max() < 2**depth)


def check_samples_readable(page: TiffPage) -> None:
    """Check that the samples of an image are of a kind that can be read.

    Raises:
        RefusedError: they are not unsigned integers of 8 or 16 bits.
    """
    bits = page.bitspersample
    if page.sampleformat not in (_UNSIGNED, _UNDEFINED):
        raise RefusedError("has floating-point or signed pixels, not the 8 or 16 bits of a scan")
    if bits not in (8, 16):
        raise RefusedError(f"has pixels of {bits} bits a sample; 8 and 16 can be read")


def rgb_converter(page: TiffPage, *, decoded_to_rgb: bool) -> ToRGB:
    """Return the conversion for the blocks of an image.

    Args:
        page: tifffile's reading of the image's tags.
        decoded_to_rgb: its decoder converts YCbCr itself.

    Returns:
        A function from samples, uint8 or uint16 (h, w, samples), to uint8 (h, w, 3) RGB. It raises
        RefusedError where values exceed the bits in use.

    Raises:
        RefusedError: the pixel format has no faithful conversion.
    """
    check_samples_readable(page)
    bits, samples = page.bitspersample, page.samplesperpixel
    photometric, depth = page.photometric, significant_bits(page)
    if photometric == _PALETTE and samples == 1 and bits == 8:
        return _palette(_color_map(page))
    if photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and samples in (1, 2):
        inverted = photometric == _WHITE_IS_ZERO
        return _grey(_alpha(page, samples == 2), depth, inverted=inverted)
    if (samples in (3, 4) and photometric == RGB) or (samples == 3 and photometric == YCBCR):
        rgb = _rgb(_alpha(page, samples == 4), depth)
        if photometric == RGB or decoded_to_rgb:
            return rgb
        if bits != 8:
            raise RefusedError("has YCbCr pixels of 16 bits a sample; 8 can be read")
        return lambda pixels: rgb(ycbcr_to_rgb(pixels))
    kind = _NAMES.get(photometric, f"of photometric kind {int(photometric)}")
    raise RefusedError(f"has an image that is {kind} with {samples} samples, which cannot be read")


def ycbcr_to_rgb(samples: Samples) -> Samples:
    """Convert full-range YCbCr of ITU-R BT.601, as in JPEG, uint8 (h, w, 3), to RGB."""
    ycrcb = np.ascontiguousarray(samples[..., [0, 2, 1]])  # the order that OpenCV wants
    return np.asarray(cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB))


def _alpha(page: TiffPage, present: bool) -> int:
    """Return the kind of alpha (tag 338), or 0 where there is none or its meaning is not stated."""
    kinds = tuple(page.extrasamples)
    return int(kinds[0]) if present and kinds else 0


def _rgb(alpha: int, depth: int) -> ToRGB:
    def convert(samples: Samples) -> NDArray[np.uint8]:
        pixels = _eight_bits(samples, depth)
        return np.ascontiguousarray(_over_white(pixels[..., :3], pixels[..., 3:], alpha))

    return convert


def _grey(alpha: int, depth: int, *, inverted: bool) -> ToRGB:
    def convert(samples: Samples) -> NDArray[np.uint8]:
        pixels = _eight_bits(samples, depth)
        grey = 255 - pixels[..., :1] if inverted else pixels[..., :1]
        return np.repeat(_over_white(grey, pixels[..., 1:], alpha), 3, axis=-1)

    return convert


def _palette(table: NDArray[np.uint8]) -> ToRGB:
    def convert(samples: Samples) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = table[samples[..., 0]]
        return pixels

    return convert


def _eight_bits(samples: Samples, depth: int) -> NDArray[np.uint8]:
    if samples.dtype == np.uint8:
        return samples
    if depth < 16 and samples.max(initial=0) >> depth:
        raise RefusedError(f"has values beyond the {depth} bits that MaxSampleValue states")
    return np.asarray(samples >> (depth - 8), np.uint8)


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
