"""Read what an ONNX graph is in protobuf, without the onnx package.

That package is not part of every installation. See
https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _LENGTH, _GROUP, _END_OF_GROUP, _FOUR_BYTES = range(6)
_MORE = 0x80
"""Set in each byte of a number but the last."""


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Generate the fields of a message: numbers, and bytes that have a length.

    Raises:
        IndexError, ValueError: it is not a message.
    """
    for field, value, _, _ in _read(data):
        if value is not None:
            yield field, value


def whole_fields(
    data: memoryview,
) -> Iterator[tuple[int, int | memoryview | None, memoryview]]:
    """Generate all fields of a message, each with the bytes that it is in the message.

    The value is None where it is neither a number nor bytes that have a length.

    Raises:
        IndexError, ValueError: it is not a message.
    """
    for field, value, start, end in _read(data):
        yield field, value, data[start:end]


def _read(data: memoryview) -> Iterator[tuple[int, int | memoryview | None, int, int]]:
    """Generate the fields of a message, and where each begins and ends."""
    at, end = 0, len(data)
    while at < end:
        start = at
        # Almost every key and length is one byte, and a graph has 100,000 of them.
        key, at = (data[at], at + 1) if data[at] < _MORE else _varint(data, at)
        kind = key & 7
        value: int | memoryview | None = None
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _LENGTH:
            length, at = (data[at], at + 1) if data[at] < _MORE else _varint(data, at)
            if length > end - at:
                raise ValueError("a field reaches beyond its message")
            value = data[at : at + length]
            at += length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        elif kind not in (_GROUP, _END_OF_GROUP):
            raise ValueError(f"there is no wire type {kind}")
        yield key >> 3, value, start, at


def numbers(packed: memoryview) -> list[int]:
    """Return the numbers of a repeated field that holds them side by side.

    Raises:
        IndexError, ValueError: they are none.
    """
    found, at = [], 0
    while at < len(packed):
        value, at = _varint(packed, at)
        found.append(value)
    return found


def with_length(field: int, content: bytes) -> bytes:
    """Return a field that has a length, as it stands in a message."""
    return head(field, len(content)) + content


def head(field: int, length: int) -> bytes:
    """Return what stands before the content of a field that has a length."""
    return _written(field << 3 | _LENGTH) + _written(length)


def number(field: int, value: int) -> bytes:
    """Return a field that is a number of at least 0, as it stands in a message."""
    return _written(field << 3 | _VARINT) + _written(value)


def _written(value: int) -> bytes:
    found = bytearray()
    while value >= _MORE:
        found.append(value & 0x7F | _MORE)
        value >>= 7
    found.append(value)
    return bytes(found)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < _MORE:
            return value, at
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
