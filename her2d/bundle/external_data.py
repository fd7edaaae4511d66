"""Whether an ONNX graph keeps weights in other files, which a bundle's manifest does not verify.

ONNX Runtime reads such files from beside the graph. The graph is read here as what it is in
protobuf (https://protobuf.dev/programming-guides/encoding/), because the onnx package, which could
tell, is not part of every installation.
"""

from collections.abc import Iterator

# Which fields of a message hold which messages, from onnx.proto. A TensorProto has external data if
# it has entries in field 13, or the value 1 in field 14.
_MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {
        **dict.fromkeys((5, 10), "tensor"),
        **dict.fromkeys((6, 11), "graph"),
        **dict.fromkeys((22, 23), "sparse tensor"),
    },
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _EIGHT_BYTES, _LENGTH, _GROUP, _END_OF_GROUP, _FOUR_BYTES = range(6)


def has_external_data(model: bytes) -> bool:
    """Return whether a tensor of an ONNX model lies in another file.

    Args:
        model: the content of an ONNX file. One that is not in protobuf has none.
    """
    pending = [("model", memoryview(model))]
    try:
        while pending:
            message, data = pending.pop()
            for field, value in _fields(data):
                if message == "tensor":
                    if field == _EXTERNAL_DATA or (field, value) == (_DATA_LOCATION, 1):
                        return True
                    continue
                inner = _MESSAGES[message].get(field)
                if inner is not None and isinstance(value, memoryview):
                    pending.append((inner, value))
    except (IndexError, ValueError):
        return False
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Generate the fields of a message: numbers, and bytes that have a length."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield field, value
        elif kind == _LENGTH:
            length, at = _varint(data, at)
            if length > len(data) - at:
                raise ValueError("a field reaches beyond its message")
            yield field, data[at : at + length]
            at += length
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            at += 8 if kind == _EIGHT_BYTES else 4
        elif kind not in (_GROUP, _END_OF_GROUP):
            raise ValueError(f"there is no wire type {kind}")


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
