"""Read what an ONNX graph is in protobuf, without the onnx package.

That package is not part of every installation. See
https://protobuf.dev/programming-guides/encoding/.
"""

from collections.abc import Iterator

_VARINT, _EIGHT_BYTES, _LENGTH, _GROUP, _END_OF_GROUP, _FOUR_BYTES = range(6)


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Generate the fields of a message: numbers, and bytes that have a length.

    Raises:
        IndexError, ValueError: it is not a message.
    """
    for field, value, _ in whole_fields(data):
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
    at = 0
    while at < len(data):
        start = at
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        value: int | memoryview | None = None
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _LENGTH:
            length, at = _varint(data, at)
            if length > len(data) - at:
                raise ValueError("a field reaches beyond its message")
            value = data[at : at + length]
            at += length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        elif kind not in (_GROUP, _END_OF_GROUP):
            raise ValueError(f"there is no wire type {kind}")
        yield field, value, data[start:at]


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
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
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
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number has more than 64 bits")
