"""Convolutions of few channels, so that they fill the processor's vectors.

ONNX Runtime computes a convolution for 16 channels of its output at once. Of one with 6 channels it
computes 16 all the same and throws 10 away. Two neighbouring pixels as 12 channels take hardly more
work than one: the same convolution at every second pixel, once as it is and once moved by a pixel.
Each sum has the same terms in the same order, and zeros between them that do not change it.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from her2d.inference.cpu_graph.replacement import Known, Replacement, Replacements
from her2d.inference.onnx_graph import Node

LANES = 16
"""Channels that are computed at once, with AVX-512."""

# Of a convolution's time, what must be saved where pixels have to be put in order afterwards.
_LEAST_GAIN = 0.2
_ALL_AT_ONCE = {"group": 1, "auto_pad": b"NOTSET"}


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution without groups and dilation, with a bias.

    Attributes:
        node: in the graph.
        weight, bias: float32 (M, C, kernel height, kernel width) and (M,).
        strides: rows and columns.
        pads: above, left, below, right.
        height, width: of its output.
    """

    node: Node
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    strides: tuple[int, int]
    pads: tuple[int, ...]
    height: int
    width: int

    @classmethod
    def made(cls, known: Known, value: str) -> Self | None:
        """Return the convolution that makes a value and is worth a look, None if none does.

        That is one that reads fewer channels than are computed at once. Those of more read and sum
        up their input in another order.
        """
        node, pixels = known.made(value, "Conv"), known.pixels(value)
        if node is None or pixels is None or len(node.inputs) != 3:
            return None
        weight, bias = known.graph.floats(node.inputs[1]), known.graph.floats(node.inputs[2])
        attributes = {**_ALL_AT_ONCE, **node.attributes}
        strides = attributes.get("strides", (1, 1))
        pads = attributes.get("pads", (0, 0, 0, 0))
        if (
            weight is None
            or bias is None
            or weight.ndim != 4
            or weight.shape[1] >= LANES
            or any(attributes[name] != value for name, value in _ALL_AT_ONCE.items())
            or attributes.get("dilations", (1, 1)) != (1, 1)
            or not isinstance(strides, tuple)
            or not isinstance(pads, tuple)
        ):
            return None
        rows, columns = strides
        return cls(node, weight, bias, (rows, columns), pads, *pixels[1:])

    @property
    def channels(self) -> int:
        return len(self.weight)

    def gains(self, rows: int, columns: int, least: float = _LEAST_GAIN) -> bool:
        """Whether it is faster to compute so many rows and columns of pixels as channels.

        Args:
            rows, columns: of pixels.
            least: share of its time that must be saved.
        """
        if self.height % rows or self.width % columns:
            return False
        return self._cost(rows, columns) <= (1 - least) * self._cost(1, 1)

    def _cost(self, rows: int, columns: int) -> float:
        _, _, height, width = self._packed_shape(rows, columns)
        vectors = -(-self.channels * rows * columns // LANES)
        return vectors * height * width / (rows * columns)

    def _packed_shape(self, rows: int, columns: int) -> tuple[int, int, int, int]:
        channels, inputs, height, width = self.weight.shape
        down, right = self.strides
        return (
            channels * rows * columns,
            inputs,
            height + down * (rows - 1),
            width + right * (columns - 1),
        )

    def packed(self, into: Replacement, rows: int, columns: int) -> str:
        """Add the convolution of several pixels at once and return its output's name.

        Args:
            into: where to add it.
            rows, columns: of pixels.

        Returns:
            The name of float32 (N, rows * columns * M, height / rows, width / columns).
        """
        channels, inputs, height, width = self.weight.shape
        down, right = self.strides
        _, _, tall, wide = shape = self._packed_shape(rows, columns)
        weight = np.zeros((rows, columns, channels, inputs, tall, wide), np.float32)
        for row in range(rows):
            for column in range(columns):
                top, left = row * down, column * right
                weight[row, column, :, :, top : top + height, left : left + width] = self.weight
        return into.add(
            "Conv",
            (
                self.node.inputs[0],
                into.weight(weight.reshape(shape)),
                into.weight(np.tile(self.bias, rows * columns)),
            ),
            kernel_shape=(tall, wide),
            strides=(rows * down, columns * right),
            pads=self.pads,
        )


def with_relu(known: Known, value: str) -> Convolution | None:
    """Return the convolution before the ReLU that makes a value, if only that reads it."""
    relu = known.made(value, "Relu")
    if relu is None or known.only_reader(relu.inputs[0]) is not relu:
        return None
    return Convolution.made(known, relu.inputs[0])


def two_rows_at_once(known: Known) -> Replacements:
    """Replace convolutions with ReLU of at most half the channels that are computed at once."""
    for node in known.graph.nodes:
        if node.kind != "Relu":
            continue
        (value,) = node.outputs
        found = with_relu(known, value)
        if found is None or not found.gains(2, 1):
            continue
        m, height, width = found.channels, found.height, found.width
        made = Replacement((value,))
        rows = made.add("Relu", (found.packed(made, 2, 1),))
        apart = made.add("Reshape", (rows, made.ints(0, 2, m, height // 2, width)))
        ordered = made.add("Transpose", (apart,), perm=(0, 2, 3, 1, 4))
        made.add("Reshape", (ordered, made.ints(0, m, height, width)), value)
        yield made


def greater_logits(known: Known) -> Replacements:
    """Replace the convolution of two channels that are only compared with each other."""
    rows, columns = 4, 2
    for node in known.graph.nodes:
        if node.kind != "Greater" or len(known.graph.shape(node.outputs[0])) != 3:
            continue
        picks = [known.made(value, "Gather") for value in node.inputs]
        if None in picks:
            continue
        sources = {pick.inputs[0] for pick in picks if pick}
        channels = [known.ints(pick.inputs[1]) for pick in picks if pick]
        axes = [pick.attributes.get("axis") for pick in picks if pick]
        if len(sources) != 1 or channels != [[1], [0]] or axes != [1, 1]:
            continue
        found = Convolution.made(known, sources.pop())
        if found is None or found.channels != 2 or not found.gains(rows, columns):
            continue
        height, width = found.height // rows, found.width // columns
        made = Replacement(node.outputs)
        logits = found.packed(made, rows, columns)
        pairs = made.add("Reshape", (logits, made.ints(0, rows * columns, 2, height, width)))
        first, second = made.several(2)
        made.add("Split", (pairs, made.ints(1, 1)), first, second, axis=2)
        greater = made.add("Greater", (second, first))
        apart = made.add("Reshape", (greater, made.ints(0, rows, columns, height, width)))
        ordered = made.add("Transpose", (apart,), perm=(0, 3, 1, 4, 2))
        made.add("Reshape", (ordered, made.ints(0, found.height, found.width)), *node.outputs)
        yield made


def joined_stems(known: Known) -> Replacements:
    """Join convolutions of the same input, each with ReLU and max-pooling, into one."""
    stems: dict[object, list[tuple[Convolution, Node]]] = {}
    for pool in known.graph.nodes:
        if pool.kind != "MaxPool" or len(pool.outputs) != 1:
            continue
        found = with_relu(known, pool.inputs[0])
        if found is None or known.only_reader(pool.inputs[0]) is not pool:
            continue
        alike = (
            found.node.inputs[0],
            found.weight.shape[1:],
            found.strides,
            found.pads,
            tuple(sorted(pool.attributes.items())),
        )
        stems.setdefault(alike, []).append((found, pool))
    for some in stems.values():
        apart = sum(-(-found.channels // LANES) for found, _ in some)
        channels = [found.channels for found, _ in some]
        together = -(-sum(channels) // LANES)
        if together > (1 - _LEAST_GAIN) * apart:
            continue
        yield _joined(some, channels, together * LANES)


def _joined(some: list[tuple[Convolution, Node]], channels: list[int], padded: int) -> Replacement:
    found, pool = some[0]
    made = Replacement(tuple(each.outputs[0] for _, each in some))
    weight = np.zeros((padded, *found.weight.shape[1:]), np.float32)
    bias = np.zeros(padded, np.float32)
    weight[: sum(channels)] = np.concatenate([each.weight for each, _ in some])
    bias[: sum(channels)] = np.concatenate([each.bias for each, _ in some])
    together = made.add(
        "Conv",
        (found.node.inputs[0], made.weight(weight), made.weight(bias)),
        kernel_shape=weight.shape[2:],
        strides=found.strides,
        pads=found.pads,
    )
    pooled = made.several(1)[0]
    relu = made.add("Relu", (together,))
    made.nodes.append(pool.renamed({pool.inputs[0]: relu, pool.outputs[0]: pooled}))
    rest = padded - sum(channels)
    sizes = [*channels, rest] if rest else channels
    outputs = [*made.outputs, *made.several(1)] if rest else made.outputs
    made.add("Split", (pooled, made.ints(*sizes)), *outputs, axis=1)
    return made
