"""SegNet's pooling and unpooling, by the position of each maximum instead of four masks.

A bundle's graph has them as strided slices, masks of the first maximum and a pixel shuffle, which
every library can compute (ADR 0004). ONNX Runtime on the CPU has MaxUnpool, which needs only the
position; its MaxPool finds positions too, but more slowly than comparisons do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from her2d.inference.cpu_graph.narrow import with_relu
from her2d.inference.cpu_graph.replacement import Known, Replacement, Replacements
from her2d.inference.onnx_graph import FLOAT, INT64, Attribute, Node

# What a value must be: a name that stands for the same value everywhere, numbers that a weight
# must hold (None: any), or a node: kind, attributes that it must have, and its inputs.
Pattern: TypeAlias = "str | tuple[int, ...] | Step | None"


@dataclass(frozen=True, slots=True)
class Step:
    """A node of a pattern."""

    kind: str
    inputs: tuple[Pattern, ...]
    attributes: Mapping[str, Attribute]
    name: str = ""


def _step(kind: str, *inputs: Pattern, name: str = "", **attributes: Attribute) -> Step:
    return Step(kind, inputs, attributes, name)


def _unpooled() -> Step:
    """Return the pattern of a max-unpooling of `values` by the maxima of `map`."""
    rows = [_step("Slice", "map", (row,), None, (2,), (2,)) for row in (0, 1)]
    corners = [
        _step("Slice", rows[row], (column,), None, (3,), (2,), name=f"corner {2 * row + column}")
        for row in (0, 1)
        for column in (0, 1)
    ]
    upper, lower = (
        _step("Max", *corners[:2], name="upper"),
        _step("Max", *corners[2:], name="lower"),
    )
    pooled = _step("Max", upper, lower, name="pooled")
    equal = [_step("Equal", corner, pooled) for corner in corners[:3]]
    first = equal[0]
    second = _step("And", equal[1], _step("Not", first))
    of_two = _step("Or", first, second)
    third = _step("And", equal[2], _step("Not", of_two))
    fourth = _step("Not", _step("Or", of_two, third))
    spread = (
        _step(
            "Unsqueeze",
            _step("Mul", "values", _step("Cast", mask, to=FLOAT)),
            (2,),
        )
        for mask in (first, second, third, fourth)
    )
    channels = _step("Reshape", _step("Concat", *spread, axis=2), None)
    return _step("DepthToSpace", channels, blocksize=2, mode=b"CRD")


_UNPOOLED = _unpooled()


def unpooling_by_positions(known: Known) -> Replacements:
    """Replace each max-unpooling, and the masks that it reads."""
    for node in known.graph.nodes:
        if node.kind != "DepthToSpace":
            continue
        found: dict[str, str] = {}
        if _matches(known, node.outputs[0], _UNPOOLED, found):
            pixels = known.pixels(found["map"])
            if pixels and _fits(known, node, found, *pixels):
                yield from _corners_at_once(known, found)
                yield _by_positions(node, found, *pixels)


def _matches(known: Known, value: str, pattern: Pattern, found: dict[str, str]) -> bool:
    if isinstance(pattern, Step):
        if pattern.name in found:
            return found[pattern.name] == value
        return _is_step(known, value, pattern, found)
    if isinstance(pattern, str):
        return found.setdefault(pattern, value) == value
    return pattern is None or known.ints(value) == list(pattern)


def _is_step(known: Known, value: str, step: Step, found: dict[str, str]) -> bool:
    node = known.made(value, step.kind)
    if node is None or len(node.inputs) != len(step.inputs):
        return False
    if any(node.attributes.get(name) != wanted for name, wanted in step.attributes.items()):
        return False
    if step.name:
        found[step.name] = value
    return all(
        _matches(known, given, wanted, found)
        for given, wanted in zip(node.inputs, step.inputs, strict=True)
    )


def _fits(
    known: Known, node: Node, found: dict[str, str], channels: int, height: int, width: int
) -> bool:
    """Whether the slices reach to the end of a map of even height and width."""
    half = (channels, height // 2, width // 2)
    corners = [known.pixels(found[f"corner {number}"]) for number in range(4)]
    return (
        height % 2 == width % 2 == 0
        and [*corners, known.pixels(found["values"])] == [half] * 5
        and known.pixels(node.inputs[0]) == (4 * channels, *half[1:])
    )


def _by_positions(
    node: Node, found: dict[str, str], channels: int, height: int, width: int
) -> Replacement:
    """Replace the masks, by steps that only compare and move values, and so are exact."""
    made = Replacement((found["pooled"], *node.outputs))
    batch = made.add("Shape", (found["pooled"],), start=0, end=1)
    positions = _positions(made, _corners(found), found["pooled"])
    plane = height * width
    grid = 2 * width * np.arange(height // 2)[:, None] + 2 * np.arange(width // 2)
    zero, step = made.weight(np.array(0)), made.weight(np.array(plane))
    end = made.add("Squeeze", (made.add("Mul", (batch, made.ints(channels * plane))),))
    planes = made.add(
        "Reshape", (made.add("Range", (zero, end, step)), made.ints(-1, channels, 1, 1))
    )
    down = made.add("Mul", (positions[0], made.ints(width)))
    within = made.add("Add", (made.add("Add", (down, positions[1])), made.weight(grid[None, None])))
    shape = made.add("Concat", (batch, made.ints(channels, height, width)), axis=0)
    made.add(
        "MaxUnpool",
        (found["values"], made.add("Add", (within, planes)), shape),
        *node.outputs,
        kernel_shape=(2, 2),
        strides=(2, 2),
    )
    return made


def _corners(found: dict[str, str]) -> tuple[str, ...]:
    """Return the names of the four pixels of each window, in row-major order."""
    return tuple(found[f"corner {number}"] for number in range(4))


def _corners_at_once(known: Known, found: dict[str, str]) -> Replacements:
    """Replace the convolution with ReLU before a pooling by one of a window's four pixels."""
    convolution = with_relu(known, found["map"])
    # Even where the convolution takes as long, the slices are saved.
    if convolution is None or not convolution.gains(2, 2, least=0.0):
        return
    made = Replacement(_corners(found))
    windows = made.add("Relu", (convolution.packed(made, 2, 2),))
    made.add("Split", (windows, made.ints(*[convolution.channels] * 4)), *made.outputs, axis=1)
    yield made


def _positions(made: Replacement, corners: tuple[str, ...], pooled: str) -> tuple[str, str]:
    """Add the maximum of each window and return the row and column of the first one, as int64."""
    upper = made.add("Max", corners[:2])
    lower = made.add("Max", corners[2:])
    made.add("Max", (upper, lower), pooled)
    # Of equal values the first in row-major order counts.
    is_lower = made.add("Greater", (lower, upper))
    right_above = made.add("Greater", (corners[1], corners[0]))
    right_below = made.add("Greater", (corners[3], corners[2]))
    differ = made.add("Xor", (right_above, right_below))
    is_right = made.add("Xor", (right_above, made.add("And", (is_lower, differ))))
    row, column = (made.add("Cast", (value,), to=INT64) for value in (is_lower, is_right))
    return row, column
