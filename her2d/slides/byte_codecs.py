"""Decode blocks that hold the bytes of their samples, compressed or not.

Every decoder is given the number of bytes that a block can need, and stops there: what a
decompression bomb would hold beyond it is never unpacked.
"""

import lzma
from collections.abc import Callable
from types import MappingProxyType

import imagecodecs
import numpy as np

from her2d.slides.block_format import BlockFormat, BlockSize, Decode, Samples
from her2d.slides.errors import RefusedError
from her2d.slides.lzw import decode_lzw

NONE, LZW, ADOBE_DEFLATE, DEFLATE, PACKBITS = 1, 5, 8, 32946, 32773
LZMA, OLD_ZSTD, ZSTD = 34925, 34926, 50000
WITH_PREDICTOR = frozenset({LZW, ADOBE_DEFLATE, DEFLATE, LZMA, OLD_ZSTD, ZSTD})

_LZMA_MEMORY = 128 * 2**20  # presets up to 9 need 65 MiB, and a header may state 4 GiB

Unpack = Callable[[bytes, int], bytes | memoryview]  # a block and the most bytes that it may hold


def byte_decoder(stored: BlockFormat) -> Decode:
    """Return the decoder of an image whose compression is one of BYTE_CODECS."""
    if stored.compression == LZW:
        return _lzw_decoder(stored)
    unpack = BYTE_CODECS[stored.compression]
    dtype = np.dtype(f"{stored.byteorder}u{stored.bits // 8}")

    def decode(data: bytes, size: BlockSize) -> Samples:
        row = size.width * stored.samples
        most = row * size.height * dtype.itemsize
        unpacked = unpack(_in_order(data, stored), most)
        rows = min(len(unpacked) // (row * dtype.itemsize), size.height)
        if rows < size.visible_height:
            raise ValueError("not enough bytes")
        samples = np.frombuffer(unpacked, dtype, rows * row).reshape(rows, size.width, -1)
        native = samples.astype(dtype.newbyteorder("="), copy=False)
        if stored.predictor == 1:
            return native
        # Each row begins again with a value, and each sample is differenced separately.
        return np.asarray(imagecodecs.delta_decode(native, axis=1))

    return decode


def _lzw_decoder(stored: BlockFormat) -> Decode:
    def decode(data: bytes, size: BlockSize) -> Samples:
        return decode_lzw(
            _in_order(data, stored),
            shape=(size.visible_height, size.width, stored.samples),
            bits=stored.bits,
            predictor=stored.predictor,
            byteorder=stored.byteorder,
        )

    return decode


def _in_order(data: bytes, stored: BlockFormat) -> bytes:
    return bytes(imagecodecs.bitorder_decode(data)) if stored.bits_reversed else data


def _raw(data: bytes, most: int) -> memoryview:
    return memoryview(data)[:most]


def _deflate(data: bytes, most: int) -> bytes:
    return bytes(imagecodecs.deflate_decode(data, out=most))


def _packbits(data: bytes, most: int) -> bytes:
    return bytes(imagecodecs.packbits_decode(data, out=most))


def _zstd(data: bytes, most: int) -> bytes:
    return bytes(imagecodecs.zstd_decode(data, out=most))


def _lzma(data: bytes, most: int) -> bytes:
    try:
        return lzma.LZMADecompressor(memlimit=_LZMA_MEMORY).decompress(data, max_length=most)
    except lzma.LZMAError as error:
        raise RefusedError(f"cannot be decoded: {error}") from error


BYTE_CODECS: MappingProxyType[int, Unpack] = MappingProxyType(
    {
        NONE: _raw,
        ADOBE_DEFLATE: _deflate,
        DEFLATE: _deflate,
        PACKBITS: _packbits,
        LZMA: _lzma,
        OLD_ZSTD: _zstd,
        ZSTD: _zstd,
    }
)
