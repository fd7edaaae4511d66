"""The bundle's graph in the words that TensorRT's parser takes."""

import onnx
from onnx import TensorProto


def for_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` that computes the same, with uint8 cast before it is transposed.

    TensorRT takes uint8 at the border and lets nothing but a cast read it. Graphs are exported so
    by now; older bundles' are not.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    inputs = {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.UINT8}
    for node in graph.node:
        following = readers.get(node.output[0], [])
        if (
            node.op_type == "Transpose"
            and node.input[0] in inputs
            and [reader.op_type for reader in following] == ["Cast"]
        ):
            _swap(node, following[0])
    del graph.value_info[:]
    return result


def _swap(first: onnx.NodeProto, second: onnx.NodeProto) -> None:
    """Exchange what two nodes in a row do; the names around and between them stay."""
    first.op_type, second.op_type = second.op_type, first.op_type
    first.name, second.name = second.name, first.name
    attributes = list(first.attribute), list(second.attribute)
    for node, given in zip((second, first), attributes, strict=True):
        del node.attribute[:]
        node.attribute.extend(given)
