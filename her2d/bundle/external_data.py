"""Whether an ONNX graph keeps weights in other files, which a bundle's manifest does not verify.

ONNX Runtime reads such files from beside the graph.
"""

from her2d.bundle.protobuf import fields

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


def has_external_data(model: bytes) -> bool:
    """Return whether a tensor of an ONNX model lies in another file.

    Args:
        model: the content of an ONNX file. One that is not in protobuf has none.
    """
    pending = [("model", memoryview(model))]
    try:
        while pending:
            message, data = pending.pop()
            for field, value in fields(data):
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
