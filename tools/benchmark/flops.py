"""Count the arithmetic of an ONNX graph's convolutions and matrix products for one tile."""

from math import prod
from pathlib import Path

import onnx

from her2d.inference.engine import EngineError


def flops_of(path: Path) -> int:
    """Count multiplications and additions for one tile; a multiply-add counts as two.

    Only convolutions and matrix products count, because all other operators take only a few
    operations per value.

    Args:
        path: an ONNX file.

    Raises:
        EngineError: the shape of a convolution or matrix product cannot be inferred.
        OSError: the file cannot be read.
    """
    model = onnx.load(path)
    named = model.graph
    batch = named.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*named.input, *named.value_info, *named.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == batch != "":
                dim.dim_value = 1
    # Some shapes come only from the exporter, others only from inference.
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {v.name: _shape(v) for v in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {item.name: tuple(item.dims) for item in graph.initializer}
    return sum(2 * _multiply_adds(node, shapes) for node in graph.node)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the sizes of a value; an unknown one is 0."""
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _multiply_adds(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return 0
    first, second, result = (shapes.get(n, ()) for n in (*node.input[:2], node.output[0]))
    if not all(sizes and all(sizes) for sizes in (first, second, result)):
        raise EngineError(f"The shapes of {node.op_type} {node.name!r} cannot be inferred.")
    if node.op_type == "Conv":
        # weight (out, in / groups, *kernel): each output value takes one filter.
        return prod(result) * prod(second[1:])
    if node.op_type == "ConvTranspose":
        # weight (in, out / groups, *kernel): each input value goes through one filter.
        return prod(first) * prod(second[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return prod(result) * first[0 if transposed else 1]
    return prod(result) * first[-1]
