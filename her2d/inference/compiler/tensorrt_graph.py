"""Rewrite a bundle's graph in the form that TensorRT's parser accepts."""

import onnx
from onnx import TensorProto


def for_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a graph so that its uint8 input is cast before it is transposed.

    TensorRT accepts a uint8 input only if a cast reads it. Graphs that her2d exports have this
    order; those of older bundles do not.
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
    """Swap the operators of two successive nodes; the names of their values stay."""
    first.op_type, second.op_type = second.op_type, first.op_type
    first.name, second.name = second.name, first.name
    attributes = list(first.attribute), list(second.attribute)
    for node, given in zip((second, first), attributes, strict=True):
        del node.attribute[:]
        node.attribute.extend(given)
