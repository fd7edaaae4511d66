"""Decode ImageDescription (tag 270) in the encodings that programs write it in.

TIFF 6.0 wants 7-bit ASCII there. Programs write UTF-8, the encoding of their country, or UTF-16,
cut texts in the middle of a character, and give the tag the type BYTE or UNDEFINED. What her2d
reads from a description is ASCII in all of these encodings, so that an operator's name must not
hide it.
"""

import codecs
import re
from collections.abc import Callable, Iterator

_ENCODINGS = ("gb18030", "cp932", "big5", "cp1252")  # GBK is part of GB 18030
_SAMPLE_BYTES = 4096
_BEYOND_ASCII = re.compile("[^\x00-\x7f\ufffd]")


def decode_description(raw: bytes, count_values: Callable[[str], int]) -> str:
    """Return the text of a description; bytes that mean nothing are replaced by U+FFFD.

    Args:
        raw: the value of the tag.
        count_values: returns how many values a text states that her2d knows. The second byte of a
            character may be the bar that separates fields, so of two encodings the one is right
            that states more.
    """
    if raw.startswith(codecs.BOM_UTF8):
        raw = raw[len(codecs.BOM_UTF8) :]
    if (utf_16 := _utf_16(raw)) is not None:
        return _tidy(raw[: len(raw) // 2 * 2].decode(utf_16, "replace"))
    raw = raw.rstrip(b"\0")
    try:
        return _tidy(raw.decode("utf-8"))  # hardly a text of another encoding is valid in this one
    except UnicodeDecodeError:
        return max(_decoded(raw), key=count_values)  # the first of several


def _utf_16(raw: bytes) -> str | None:
    """Return the encoding of UTF-16, known by its mark, or by every second byte of ASCII, zero."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    sample = raw[:_SAMPLE_BYTES].rstrip(b"\0")
    pairs = len(sample) // 2
    if pairs < 2:
        return None
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = sample[first::2].count(0)
        if zeros > pairs * 0.6 and sample[1 - first :: 2].count(0) < pairs * 0.1:
            return encoding
    return None


def _decoded(raw: bytes) -> Iterator[str]:
    """Generate the text in each encoding that could be meant, the likeliest first."""
    mended = raw.decode("utf-8", "replace")
    # Of a text that was cut only one character is invalid, of one in another encoding nearly all.
    if len(_BEYOND_ASCII.findall(mended)) > mended.count("\ufffd"):
        yield _tidy(mended)
    for encoding in _ENCODINGS:
        try:
            yield _tidy(raw.decode(encoding))
        except UnicodeDecodeError:
            continue
    yield _tidy(mended)


def _tidy(text: str) -> str:
    """Part the strings of the tag (TIFF 6.0, page 15: each ends with NUL) by line breaks."""
    return text.strip("\0 \t\r\n").replace("\0", "\n")
