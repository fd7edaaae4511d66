"""Choose the decoder of an image's blocks and their conversion to RGB."""

from collections.abc import Callable
from types import MappingProxyType

from her2d.slides.block_format import BlockFormat, Decode
from her2d.slides.byte_codecs import BYTE_CODECS, LZW, WITH_PREDICTOR, byte_decoder
from her2d.slides.colour import ToRGB, check_samples_readable, rgb_converter, significant_bits
from her2d.slides.errors import RefusedError
from her2d.slides.images import Image
from her2d.slides.jpeg import JPEG, JpegDecoder, old_jpeg_decoder
from her2d.slides.jpeg2000 import JPEG_2000, jpeg2000_decoder
from her2d.slides.jpeg_xl_xr import JPEG_XL, JPEG_XR, jpeg_xl_decoder, jpeg_xr_decoder
from her2d.slides.old_jpeg import OLD_JPEG, old_jpeg_header
from her2d.slides.picture_codecs import PICTURE_CODECS, picture_decoder

_FILL_ORDER, _JPEG_TABLES, _YCBCR_SUBSAMPLING = 266, 347, 530
_LOWEST_BIT_FIRST = 2

_DECODERS: MappingProxyType[int, Callable[[BlockFormat], Decode]] = MappingProxyType(
    {
        **dict.fromkeys((*BYTE_CODECS, LZW), byte_decoder),
        **dict.fromkeys(PICTURE_CODECS, picture_decoder),
        **dict.fromkeys(JPEG_2000, jpeg2000_decoder),
        **dict.fromkeys(JPEG_XL, jpeg_xl_decoder),
        **dict.fromkeys(JPEG_XR, jpeg_xr_decoder),
        JPEG: JpegDecoder,
        OLD_JPEG: old_jpeg_decoder,
    }
)
_TO_RGB = JPEG_2000 | {JPEG, OLD_JPEG}  # their decoders convert YCbCr themselves
_IGNORE_PREDICTOR = frozenset(_DECODERS) - frozenset(BYTE_CODECS) - {LZW}


def block_codec(image: Image) -> tuple[BlockFormat, Decode, ToRGB]:
    """Return the format of an image's blocks, their decoder and its samples' conversion to RGB.

    Raises:
        RefusedError: its compression or pixel format is not supported, or it contradicts itself.
    """
    page = image.page
    check_samples_readable(page)
    stored = _format(image)
    _check_format(image, stored)
    # Of separate planes a decoder sees one at a time, and cannot convert.
    decoded_to_rgb = stored.compression in _TO_RGB and stored.planes == 1
    to_rgb = rgb_converter(page, decoded_to_rgb=decoded_to_rgb)
    if stored.compression in (JPEG, OLD_JPEG) and stored.samples == 4:
        raise RefusedError("has four-component JPEG pixels, which cannot be read")
    return stored, _DECODERS[stored.compression](stored), to_rgb


def _format(image: Image) -> BlockFormat:
    directory, page = image.directory, image.page
    tables = page.tags.valueof(_JPEG_TABLES) if directory.compression == JPEG else None
    across, down = page.tags.valueof(_YCBCR_SUBSAMPLING, default=(2, 2))
    return BlockFormat(
        compression=directory.compression,
        photometric=int(page.photometric),
        bits=int(page.bitspersample),
        significant_bits=significant_bits(page),
        samples=int(page.samplesperpixel) if directory.planes == 1 else 1,
        planes=directory.planes,
        # Without effect on pictures within blocks, as in libtiff.
        predictor=int(page.predictor) if directory.compression not in _IGNORE_PREDICTOR else 1,
        byteorder=page.parent.byteorder,
        bits_reversed=page.tags.valueof(_FILL_ORDER, default=1) == _LOWEST_BIT_FIRST,
        subsampling=(int(across), int(down)),
        jpeg_tables=None if tables is None else bytes(tables),
        old_jpeg=old_jpeg_header(page) if directory.compression == OLD_JPEG else None,
    )


def _check_format(image: Image, stored: BlockFormat) -> None:
    directory, page = image.directory, image.page
    if directory.compression not in _DECODERS or page.compression != directory.compression:
        raise RefusedError(
            f"has pixels compressed in a way (TIFF code {directory.compression}) that is not "
            "supported; export it with JPEG or LZW compression"
        )
    if stored.predictor not in ((1, 2) if stored.compression in WITH_PREDICTOR else (1,)):
        raise RefusedError(
            f"has pixels with a predictor ({stored.predictor}) that is not supported"
        )
    if page.imagedepth != 1 or page.tiledepth != 1:
        raise RefusedError("is a volume, not a slide")
    if page.imagewidth != directory.width or page.imagelength != directory.height:
        raise RefusedError("contradicts itself about its dimensions")
    if stored.samples * stored.planes != page.samplesperpixel:
        raise RefusedError("contradicts itself about its samples")
    if stored.compression in (JPEG, OLD_JPEG) and stored.bits != 8:
        raise RefusedError(f"has JPEG pixels of {stored.bits} bits; 8 can be read")
