"""An ONNX graph in fp32 -> the same graph in fp16 or bf16, strongly typed.

TensorRT 11 takes a network's types as they are written, so the precision is written into the graph.
ONNX Runtime's own converter knows fp16 but not bf16, and puts normalisation into fp16 too; here
both are narrowed by one rule, the one the torch back end follows.
"""

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from her2d.errors import Her2dError

# What multiplies many values is narrowed, and what it feeds follows.
_NARROWED = frozenset({"Conv", "ConvTranspose", "Gemm"})
# What adds up many values, divides by small ones, or gives a probability, is worth the full width.
_WIDENED = frozenset({"BatchNormalization", "ReduceMean", "Softmax"})
_FOLLOWING = frozenset(
    {"Add", "Mul", "Max", "Relu", "Slice", "Equal", "Greater", "Concat", "Reshape"}
    | {"DepthToSpace", "Unsqueeze", "Squeeze", "MaxPool", "Transpose", "Gather"}
    | {"AveragePool", "Resize", "Shape"}
)
_GIVE_NO_FLOAT = frozenset({"Equal", "Greater"})
_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


class UnknownOperatorError(Her2dError):
    """The graph holds an operator of floats that the rule says nothing about."""


def narrowed(model: onnx.ModelProto, precision: Literal["fp16", "bf16"]) -> onnx.ModelProto:
    """A copy of `model` whose convolutions, and all that follows them, compute in `precision`.

    Inputs and outputs keep their types; normalisation, means and softmax stay fp32.

    Raises:
        UnknownOperatorError: an operator between narrowed ones is not known.
    """
    result = onnx.ModelProto()
    # ONNX has bf16 convolutions from this version on.
    result.CopyFrom(version_converter.convert_version(model, 22) if precision == "bf16" else model)
    _Narrowing(result, _TYPES[precision]).run()
    return result


class _Narrowing:
    """One pass over a graph in its (topological) order, knowing each float value's width."""

    def __init__(self, model: onnx.ModelProto, narrow: int) -> None:
        self._graph = graph = model.graph
        self._narrow = narrow
        self._constants = {item.name: item for item in graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        self._bools = {v.name for v in known if v.type.tensor_type.elem_type == TensorProto.BOOL}
        self._width: dict[str, int] = {
            v.name: TensorProto.FLOAT
            for v in (*known, *graph.initializer)
            if _type_of(v) == TensorProto.FLOAT
        }
        self._casts: dict[tuple[str, int], str] = {}
        self._nodes: list[onnx.NodeProto] = []

    def run(self) -> None:
        for node in self._graph.node:
            self._convert(node)
        for output in self._graph.output:
            width = self._width.get(output.name)
            if width == self._narrow and output.type.tensor_type.elem_type == TensorProto.FLOAT:
                self._restore(output.name)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]
        used = {name for node in self._nodes for name in node.input}
        kept = [item for name, item in self._constants.items() if name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _convert(self, node: onnx.NodeProto) -> None:
        width = self._width_of(node)
        for at, name in enumerate(node.input):
            if name in self._width and self._width[name] != width:
                node.input[at] = self._as(name, width)
        gives_float = node.op_type not in _GIVE_NO_FLOAT
        if node.op_type == "Cast":
            gives_float = self._convert_cast(node)
            width = next(a.i for a in node.attribute if a.name == "to")
        for name in node.output:
            if gives_float and name in self._width:
                self._width[name] = width
        self._nodes.append(node)

    def _width_of(self, node: onnx.NodeProto) -> int:
        """The width this node's float inputs are to have."""
        widths = {self._width[name] for name in node.input if name in self._width}
        if node.op_type == "ConvTranspose" and self._narrow == TensorProto.BFLOAT16:
            # TensorRT for RTX 1.7 cannot build it in bf16.
            return int(TensorProto.FLOAT)
        if node.op_type in _NARROWED:
            return self._narrow
        if node.op_type in _WIDENED or self._narrow not in widths:
            return TensorProto.FLOAT
        if node.op_type in _FOLLOWING or node.op_type == "Cast":
            return self._narrow
        raise UnknownOperatorError(f"{node.op_type} cannot be narrowed: no rule is known for it.")

    def _convert_cast(self, node: onnx.NodeProto) -> bool:
        """A mask that multiplies activations is as wide as they are."""
        (to,) = [a for a in node.attribute if a.name == "to"]
        if to.i == TensorProto.FLOAT and node.input[0] in self._bools:
            to.i = self._narrow
        return bool(to.i in (TensorProto.FLOAT, self._narrow))

    def _as(self, name: str, width: int) -> str:
        key = (name, width)
        if key not in self._casts:
            cast_name = f"{name}.as_{TensorProto.DataType.Name(width).lower()}"
            if name in self._constants:
                self._constants[cast_name] = _converted(self._constants[name], cast_name, width)
            else:
                self._nodes.append(helper.make_node("Cast", [name], [cast_name], to=width))
            self._width[cast_name] = width
            self._casts[key] = cast_name
        return self._casts[key]

    def _restore(self, name: str) -> None:
        """Give a graph output that was narrowed its float32 back."""
        inner = f"{name}.narrow"
        for node in self._nodes:
            for names in (node.input, node.output):
                for at, value in enumerate(names):
                    if value == name:
                        names[at] = inner
        self._nodes.append(helper.make_node("Cast", [inner], [name], to=TensorProto.FLOAT))


def _type_of(value: onnx.ValueInfoProto | onnx.TensorProto) -> int:
    if isinstance(value, TensorProto):
        return int(value.data_type)
    return int(value.type.tensor_type.elem_type)


def _converted(constant: onnx.TensorProto, name: str, width: int) -> onnx.TensorProto:
    dtype = helper.tensor_dtype_to_np_dtype(width)
    values = numpy_helper.to_array(constant)
    if width == TensorProto.FLOAT16 and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise UnknownOperatorError(f"The weights {constant.name} do not fit fp16.")
    return numpy_helper.from_array(values.astype(dtype), name)
