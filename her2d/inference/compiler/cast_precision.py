"""Cast an fp32 ONNX graph to fp16 or bf16, with explicit types.

TensorRT 11 builds a network in the types that its graph states, so the precision must be in the
graph. ONNX Runtime's converter supports fp16 but not bf16, and also casts normalisation to fp16.
Here one rule serves both precisions, the same as in the torch back end.
"""

from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from her2d.errors import Her2dError

# Operators that multiply many values are cast; those that they feed follow.
_CAST = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"})
# Operators that add many values, divide by small ones, or give a probability stay in fp32.
_FP32 = frozenset({"BatchNormalization", "LayerNormalization", "ReduceMean", "Softmax"})
_FOLLOWING = frozenset(
    {"Add", "Mul", "Max", "Relu", "Slice", "Equal", "Greater", "Concat", "Reshape"}
    | {"DepthToSpace", "Unsqueeze", "Squeeze", "MaxPool", "Transpose", "Gather"}
    | {"AveragePool", "Resize", "Shape", "Div", "Erf", "Expand"}
)
_BOOL_OUTPUT = frozenset({"Equal", "Greater"})
_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


class UnknownOperatorError(Her2dError):
    """The graph contains an operator of floats for which there is no rule."""


def cast_to_precision(
    model: onnx.ModelProto, precision: Literal["fp16", "bf16"]
) -> onnx.ModelProto:
    """Copy a graph with its convolutions, and the operators that they feed, cast to `precision`.

    Inputs and outputs keep their types; normalisation, means and softmax stay in fp32.

    Args:
        model: a graph in fp32.
        precision: what to cast to.

    Raises:
        UnknownOperatorError: there is no rule for an operator after a cast one, or weights exceed
            the range of fp16.
    """
    result = onnx.ModelProto()
    # Operator set 22 is the first with bf16 convolutions.
    result.CopyFrom(version_converter.convert_version(model, 22) if precision == "bf16" else model)
    _PrecisionCaster(result, _TYPES[precision]).run()
    return result


class _PrecisionCaster:
    """One pass over a graph in its (topological) order that tracks each float value's type.

    Args:
        model: changed in place.
        target: what to cast to, a TensorProto.DataType.
    """

    def __init__(self, model: onnx.ModelProto, target: int) -> None:
        self._graph = graph = model.graph
        self._target = target
        self._constants = {item.name: item for item in graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        known = (*inferred.value_info, *inferred.input, *inferred.output)
        self._bools = {v.name for v in known if v.type.tensor_type.elem_type == TensorProto.BOOL}
        self._types: dict[str, int] = {
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
            dtype = self._types.get(output.name)
            if dtype == self._target and output.type.tensor_type.elem_type == TensorProto.FLOAT:
                self._restore(output.name)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        del self._graph.value_info[:]
        used = {name for node in self._nodes for name in node.input}
        kept = [item for name, item in self._constants.items() if name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _convert(self, node: onnx.NodeProto) -> None:
        dtype = self._type_for(node)
        for at, name in enumerate(node.input):
            if name in self._types and self._types[name] != dtype:
                node.input[at] = self._as(name, dtype)
        gives_float = node.op_type not in _BOOL_OUTPUT
        if node.op_type == "Cast":
            gives_float = self._convert_cast(node)
            dtype = next(a.i for a in node.attribute if a.name == "to")
        for name in node.output:
            if gives_float and name in self._types:
                self._types[name] = dtype
        self._nodes.append(node)

    def _type_for(self, node: onnx.NodeProto) -> int:
        """Decide the type of this node's float inputs."""
        types = {self._types[name] for name in node.input if name in self._types}
        if node.op_type == "ConvTranspose" and self._target == TensorProto.BFLOAT16:
            # TensorRT for RTX 1.7 cannot build it in bf16.
            return int(TensorProto.FLOAT)
        if node.op_type in _CAST:
            return self._target
        if node.op_type in _FP32 or self._target not in types:
            return TensorProto.FLOAT
        if node.op_type in _FOLLOWING or node.op_type == "Cast":
            return self._target
        raise UnknownOperatorError(f"There is no rule for casting {node.op_type}.")

    def _convert_cast(self, node: onnx.NodeProto) -> bool:
        """Give a mask that multiplies activations their type; return whether it gives floats."""
        (to,) = [a for a in node.attribute if a.name == "to"]
        if to.i == TensorProto.FLOAT and node.input[0] in self._bools:
            to.i = self._target
        return bool(to.i in (TensorProto.FLOAT, self._target))

    def _as(self, name: str, dtype: int) -> str:
        """Return the name of value `name` cast to `dtype`, adding the cast at its first use."""
        key = (name, dtype)
        if key not in self._casts:
            cast_name = f"{name}.as_{TensorProto.DataType.Name(dtype).lower()}"
            if name in self._constants:
                self._constants[cast_name] = _converted(self._constants[name], cast_name, dtype)
            else:
                self._nodes.append(helper.make_node("Cast", [name], [cast_name], to=dtype))
            self._types[cast_name] = dtype
            self._casts[key] = cast_name
        return self._casts[key]

    def _restore(self, name: str) -> None:
        """Cast a graph output that was cast to the target back to float32."""
        inner = f"{name}.cast"
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


def _converted(constant: onnx.TensorProto, name: str, dtype: int) -> onnx.TensorProto:
    np_dtype = helper.tensor_dtype_to_np_dtype(dtype)
    values = numpy_helper.to_array(constant)
    if dtype == TensorProto.FLOAT16 and np.abs(values).max(initial=0) > np.finfo(np.float16).max:
        raise UnknownOperatorError(f"The weights {constant.name} exceed the range of fp16.")
    return numpy_helper.from_array(values.astype(np_dtype), name)
