"""Convert a bundle's ONNX graph to a torch module that computes the same.

It supports the operators and versions that our exporter writes, and refuses all others. onnx2torch
could do this too, but its last release is from August 2024 and it needs torchvision.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import torch
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

from her2d.inference.engine import EngineError

_OPSETS = range(17, 19)
# Only the weights of operators that multiply many values may be cast to half precision.
_CAST = ("Conv", "ConvTranspose", "Gemm", "MatMul")

Attributes: TypeAlias = dict[str, Any]
Operator: TypeAlias = Callable[["GraphModule", Attributes, list[Tensor]], Tensor]


@dataclass(frozen=True, slots=True)
class _Step:
    """One operator, by its name."""

    name: str
    attributes: Attributes
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True)
class _Node:
    step: _Step
    dead: tuple[str, ...]
    """Values that no later node reads; freed at once, because activations are large."""


class GraphModule(nn.Module):
    """A bundle's graph as a module: uint8 (N, 512, 512, 3) in, a tuple of all outputs out.

    Args:
        content: of an ONNX file with one input.
        path: of the file, for errors.
        dtype: type of convolutions and of the operators that they feed. Normalisation, means and
            softmax stay in float32.
        memory_format: memory format of the convolutions' weights, which activations then take.

    Raises:
        EngineError: the file is not an ONNX graph, or contains an operator that is not supported.
    """

    def __init__(
        self,
        content: bytes,
        path: Path,
        dtype: torch.dtype,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        super().__init__()
        graph = _read(content, path)
        self.dtype = dtype
        self.outputs = [output.name for output in graph.output]
        self._input = graph.input[0].name
        self._nodes = _nodes(graph, path)
        self._names: dict[str, str] = {}
        self._shapes: dict[str, Tensor] = {}
        self._on_device: dict[tuple[int, ...], Tensor] = {}
        cast = _cast_weights(graph)
        for number, initializer in enumerate(graph.initializer):
            value = torch.from_numpy(numpy_helper.to_array(initializer).copy())
            if value.dtype == torch.int64:
                # Shapes, axes and indices stay in host memory, because the host reads them.
                self._shapes[initializer.name] = value
                continue
            if initializer.name in cast:
                value = value.to(dtype)
                if value.ndim == 4:
                    value = value.contiguous(memory_format=memory_format)
            self._names[initializer.name] = f"constant_{number}"
            self.register_buffer(f"constant_{number}", value)

    def forward(self, tiles: Tensor) -> tuple[Tensor, ...]:
        values: dict[str, Tensor] = {self._input: tiles, **self._shapes}
        values |= {name: self.get_buffer(buffer) for name, buffer in self._names.items()}
        for node in self._nodes:
            step = node.step
            inputs = [values[name] for name in step.inputs if name]
            values[step.output] = _OPERATORS[step.name](self, step.attributes, inputs)
            for name in node.dead:
                del values[name]
        return tuple(values[name] for name in self.outputs)

    def operators(self) -> Counter[str]:
        """Count the operators by name; `ConvRelu` and `ConvAddRelu` are joined ones."""
        return Counter(node.step.name for node in self._nodes)

    def indices(self, wanted: Tensor, like: Tensor) -> Tensor:
        """Return `wanted`, int64 in host memory, on the device of `like`.

        Each value is copied only once, because a CUDA graph must find it at the same address.
        """
        if like.device == wanted.device:
            return wanted
        key = tuple(wanted.flatten().tolist())
        if key not in self._on_device:
            self._on_device[key] = wanted.flatten().to(like.device)
        return self._on_device[key].reshape(wanted.shape)


def _read(content: bytes, path: Path) -> onnx.GraphProto:
    try:
        model = onnx.load_model_from_string(content)
        onnx.checker.check_model(model)
    except Exception as error:
        raise EngineError(f"torch cannot load {path}: {error}") from error
    opset = next((o.version for o in model.opset_import if o.domain == ""), 0)
    if opset not in _OPSETS or len(model.graph.input) != 1:
        raise EngineError(f"{path} must be an ONNX graph of opset 17 or 18 with one input.")
    return model.graph


def _nodes(graph: onnx.GraphProto, path: Path) -> list[_Node]:
    steps = []
    for node in graph.node:
        if node.op_type not in _OPERATORS or len(node.output) != 1:
            raise EngineError(f"torch cannot load {path}: it does not support {node.op_type}.")
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        steps.append(_Step(node.op_type, attributes, tuple(node.input), node.output[0]))
    kept = {output.name for output in graph.output}
    steps = _fused(steps, kept)
    last_use = {name: at for at, step in enumerate(steps) for name in step.inputs}
    constants = {initializer.name for initializer in graph.initializer}
    nodes = []
    for at, step in enumerate(steps):
        dead = {n for n in step.inputs if n and last_use[n] == at} - kept - constants
        nodes.append(_Node(step, tuple(sorted(dead))))
    return nodes


def _cast_weights(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the weights and biases of operators that multiply many values."""
    products = {node.output[0] for node in graph.node if node.op_type == "MatMul"}
    cast: set[str] = set()
    for node in graph.node:
        if node.op_type in _CAST:
            cast.update(node.input[1:])
        elif node.op_type == "Add" and products.intersection(node.input):
            # A bias of another type than the product's would change the sum's type.
            cast.update(name for name in node.input if name not in products)
    return cast


def _fused(steps: list[_Step], kept: set[str]) -> list[_Step]:
    """Join each convolution with the addition and the ReLU that alone read its output.

    cuDNN computes them in one kernel. Separately, each would read and write all activations in the
    GPU's memory once more.
    """
    uses = Counter(name for step in steps for name in step.inputs) + Counter(kept)
    made = {step.output: step for step in steps}

    def conv_of(name: str) -> _Step | None:
        step = made.get(name)
        alone = step is not None and step.name == "Conv" and len(step.inputs) == 3
        return step if alone and uses[name] == 1 else None

    joined: dict[str, _Step] = {}
    gone: set[str] = set()
    for step in steps:
        if step.name != "Relu":
            continue
        (before,) = step.inputs
        if conv := conv_of(before):
            joined[step.output] = _Step("ConvRelu", conv.attributes, conv.inputs, step.output)
            gone.add(conv.output)
        elif (add := made.get(before)) and add.name == "Add" and uses[before] == 1:
            for one, other in (add.inputs, add.inputs[::-1]):
                if other in made and (conv := conv_of(one)):
                    inputs = (*conv.inputs, other)
                    joined[step.output] = _Step("ConvAddRelu", conv.attributes, inputs, step.output)
                    gone |= {conv.output, add.output}
                    break
    return [joined.get(step.output, step) for step in steps if step.output not in gone]


def _ints(value: Tensor) -> list[int]:
    return [int(item) for item in value.flatten().tolist()]


def _cast(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    (x,) = inputs
    target = attributes["to"]
    if target == TensorProto.FLOAT and x.dtype == torch.bool:
        # A mask multiplies activations; with their type it does not change the product's type.
        return x.to(graph.dtype)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(target))
    return x.to(torch.from_numpy(np.empty(0, dtype)).dtype)


def _conv(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, weight = inputs[:2]
    bias = inputs[2] if len(inputs) > 2 else None
    return functional.conv2d(x.to(weight.dtype), weight, bias, *_geometry(attributes))


def _geometry(attributes: Attributes) -> tuple[list[int], list[int], list[int], int]:
    """Return a convolution's stride, padding, dilation and groups."""
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right):
        raise EngineError("torch does not support a convolution with uneven padding.")
    strides, dilations = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    return list(strides), [top, left], list(dilations), attributes.get("group", 1)


def _is_fused(weight: Tensor) -> bool:
    """Whether cuDNN computes ReLU in a convolution's kernel: it does so in half precision."""
    return weight.is_cuda and weight.dtype in (torch.float16, torch.bfloat16)


def _conv_relu(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, weight, bias = inputs
    if not _is_fused(weight):
        return functional.relu(_conv(graph, attributes, inputs))
    geometry = _geometry(attributes)
    return torch.cudnn_convolution_relu(x.to(weight.dtype), weight, bias, *geometry)


def _conv_add_relu(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, weight, bias, other = inputs
    if not _is_fused(weight):
        return functional.relu(_conv(graph, attributes, inputs[:3]) + other)
    geometry = _geometry(attributes)
    return torch.cudnn_convolution_add_relu(x.to(weight.dtype), weight, other, 1.0, bias, *geometry)


def _conv_transpose(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, weight = inputs[:2]
    if any(attributes.get("pads", ())) or any(attributes.get("output_padding", ())):
        raise EngineError("torch does not support a transposed convolution with padding.")
    return functional.conv_transpose2d(
        x.to(weight.dtype),
        weight,
        inputs[2] if len(inputs) > 2 else None,
        stride=tuple(attributes.get("strides", [1, 1])),
        dilation=tuple(attributes.get("dilations", [1, 1])),
        groups=attributes.get("group", 1),
    )


def _batch_norm(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, scale, bias, mean, variance = inputs
    epsilon = attributes.get("epsilon", 1e-5)
    return functional.batch_norm(x.float(), mean, variance, scale, bias, eps=epsilon)


def _average_pool(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    if any(attributes.get("pads", ())) or attributes.get("ceil_mode", 0):
        raise EngineError("torch does not support average pooling with padding.")
    kernel = attributes["kernel_shape"]
    return functional.avg_pool2d(inputs[0], kernel, stride=attributes.get("strides", [1, 1]))


def _resize(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, sizes = inputs[0], inputs[-1]
    mode = attributes.get("mode"), attributes.get("coordinate_transformation_mode", b"half_pixel")
    if mode != (b"linear", b"half_pixel") or sizes.dtype != torch.int64:
        raise EngineError(
            "torch supports Resize only to given sizes, linear, with half-pixel coordinates."
        )
    size = tuple(_ints(sizes)[2:])
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _max_pool(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    if (top, left) != (bottom, right) or attributes.get("ceil_mode", 0):
        raise EngineError("torch does not support max pooling with uneven padding.")
    return functional.max_pool2d(
        inputs[0],
        attributes["kernel_shape"],
        stride=attributes.get("strides", [1, 1]),
        padding=(top, left),
        dilation=attributes.get("dilations", [1, 1]),
    )


def _gemm(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    a, b = inputs[:2]
    a = a.to(b.dtype)
    a = a.T if attributes.get("transA", 0) else a
    b = b.T if attributes.get("transB", 0) else b
    product = torch.mul(a @ b, attributes.get("alpha", 1.0))
    if len(inputs) == 2:
        return product
    return product + torch.mul(inputs[2], attributes.get("beta", 1.0))


def _mat_mul(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    a, b = inputs
    return a.to(graph.dtype) @ b.to(graph.dtype)


def _einsum(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    cast = [x.to(graph.dtype) for x in inputs]
    return torch.einsum(attributes["equation"].decode(), *cast)


def _layer_norm(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    # The exporter stores equal weights once, so that a product may have cast them.
    x, scale, *bias = (value.float() for value in inputs)
    shape = list(x.shape[attributes.get("axis", -1) :])
    epsilon = attributes.get("epsilon", 1e-5)
    return functional.layer_norm(x, shape, scale, bias[0] if bias else None, epsilon)


def _expand(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, shape = inputs
    return x.expand(np.broadcast_shapes(tuple(x.shape), tuple(_ints(shape))))


def _slice(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, starts, ends = inputs[:3]
    axes = _ints(inputs[3]) if len(inputs) > 3 else list(range(len(_ints(starts))))
    steps = _ints(inputs[4]) if len(inputs) > 4 else [1] * len(axes)
    window = [slice(None)] * x.ndim
    for axis, start, end, step in zip(axes, _ints(starts), _ints(ends), steps, strict=True):
        window[axis] = slice(start, end, step)
    return x[tuple(window)]


def _gather(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, wanted = inputs
    axis = attributes.get("axis", 0) % x.ndim
    if wanted.ndim == 0:
        return x.select(axis, int(wanted))
    found = x.index_select(axis, graph.indices(wanted.flatten(), x))
    return found.reshape(*x.shape[:axis], *wanted.shape, *x.shape[axis + 1 :])


def _reshape(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, shape = inputs
    wanted = _ints(shape)
    if not attributes.get("allowzero", 0):
        wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    return x.reshape(wanted)


def _unsqueeze(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x, axes = inputs
    rank = x.ndim + axes.numel()
    for axis in sorted(axis % rank for axis in _ints(axes)):
        x = x.unsqueeze(axis)
    return x


def _squeeze(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    x = inputs[0]
    return x.squeeze(tuple(_ints(inputs[1]))) if len(inputs) > 1 else x.squeeze()


def _reduced_axes(attributes: Attributes, inputs: list[Tensor]) -> list[int]:
    if len(inputs) > 1:
        return _ints(inputs[1])
    return list(attributes.get("axes", range(inputs[0].ndim)))


def _mean(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    axes, keep = _reduced_axes(attributes, inputs), bool(attributes.get("keepdims", 1))
    return inputs[0].float().mean(dim=axes, keepdim=keep)


def _sum(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    axes, keep = _reduced_axes(attributes, inputs), bool(attributes.get("keepdims", 1))
    return inputs[0].sum(dim=axes, keepdim=keep, dtype=inputs[0].dtype)


def _depth_to_space(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    if attributes.get("mode", b"DCR") != b"CRD":
        raise EngineError("torch supports DepthToSpace only in the order CRD.")
    return functional.pixel_shuffle(inputs[0], attributes["blocksize"])


def _shape(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    shape = list(inputs[0].shape)[attributes.get("start", 0) : attributes.get("end")]
    return torch.tensor(shape, dtype=torch.int64)


def _softmax(graph: GraphModule, attributes: Attributes, inputs: list[Tensor]) -> Tensor:
    return inputs[0].float().softmax(dim=attributes.get("axis", -1))


_OPERATORS: dict[str, Operator] = {
    "Add": lambda _g, _a, i: i[0] + i[1],
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "And": lambda _g, _a, i: i[0] & i[1],
    "Cast": _cast,
    "Concat": lambda _g, a, i: torch.cat(i, dim=a["axis"]),
    "Conv": _conv,
    "ConvAddRelu": _conv_add_relu,
    "ConvRelu": _conv_relu,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": lambda _g, _a, i: i[0] / i[1],
    "Einsum": _einsum,
    "Equal": lambda _g, _a, i: i[0] == i[1],
    "Erf": lambda _g, _a, i: torch.erf(i[0]),
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "Greater": lambda _g, _a, i: i[0] > i[1],
    "LayerNormalization": _layer_norm,
    "Less": lambda _g, _a, i: i[0] < i[1],
    "MatMul": _mat_mul,
    "Max": lambda _g, _a, i: torch.maximum(i[0], i[1]),
    "MaxPool": _max_pool,
    "Mul": lambda _g, _a, i: i[0] * i[1],
    "Not": lambda _g, _a, i: ~i[0],
    "Or": lambda _g, _a, i: i[0] | i[1],
    "Range": lambda _g, _a, i: torch.arange(int(i[0]), int(i[1]), int(i[2])),
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "Relu": lambda _g, _a, i: functional.relu(i[0]),
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Tile": lambda _g, _a, i: i[0].repeat(*_ints(i[1])),
    "Transpose": lambda _g, a, i: i[0].permute(a["perm"]),
    "Unsqueeze": _unsqueeze,
}
