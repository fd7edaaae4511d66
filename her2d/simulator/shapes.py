"""Polygons of cells and glands, and the lattice of nodes that they belong to, in 4x pixels.

Every object belongs to a node of an unbounded jittered lattice, so the objects of a region are
those of the nodes around it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.simulator.anatomy import INFILTRATION, Anatomy
from her2d.simulator.noise import Floats, uniform, value_noise

_VERTICES = 9
_WARP_PX = 16.0
_ANGLES = np.linspace(0, 2 * np.pi, _VERTICES, endpoint=False, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of the slide in 4x pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def grown(self, margin: float) -> "Box":
        return Box(self.left - margin, self.top - margin, self.right + margin, self.bottom + margin)


@dataclass(frozen=True, slots=True)
class Shapes:
    """Polygons in the order in which they are filled.

    Attributes:
        outlines: float32 (N, vertices, 2), x and y.
        hematoxylin, eosin: float32 (N,), optical density inside; NaN does not change that stain.
        membranous: bool (N,), tumour cells whose membrane HER2 staining shows.
    """

    outlines: Floats
    hematoxylin: Floats
    eosin: Floats
    membranous: NDArray[np.bool_]

    @staticmethod
    def joined(parts: "list[Shapes]") -> "Shapes":
        return Shapes(
            np.concatenate([part.outlines for part in parts]),
            np.concatenate([part.hematoxylin for part in parts]),
            np.concatenate([part.eosin for part in parts]),
            np.concatenate([part.membranous for part in parts]),
        )


@dataclass(frozen=True, slots=True)
class Nodes:
    """Jittered lattice nodes: float32 (N,) positions, and the values that they are hashed from."""

    seed: int
    salt: int
    column: NDArray[np.int64]
    row: NDArray[np.int64]
    x: Floats
    y: Floats

    def chance(self, which: int) -> Floats:
        """Return random number `which` of each node, in [0, 1)."""
        return uniform(self.seed, self.salt * 64 + which, self.column, self.row)

    def where(self, keep: NDArray[np.bool_]) -> "Nodes":
        return Nodes(
            self.seed,
            self.salt,
            self.column[keep],
            self.row[keep],
            self.x[keep],
            self.y[keep],
        )


def lattice_nodes(seed: int, salt: int, box: Box, spacing: float, jitter: float) -> Nodes:
    """Return the nodes in and next to a box of a lattice with a spacing in 4x pixels."""
    columns = np.arange(np.floor(box.left / spacing), np.ceil(box.right / spacing) + 1)
    rows = np.arange(np.floor(box.top / spacing), np.ceil(box.bottom / spacing) + 1)
    column, row = (a.ravel().astype(np.int64) for a in np.meshgrid(columns, rows))
    spread_x = uniform(seed, salt * 64 + 60, column, row) - 0.5
    spread_y = uniform(seed, salt * 64 + 61, column, row) - 0.5
    x = ((column + 0.5 + 0.5 * (row % 2)) + jitter * spread_x) * spacing
    y = ((row + 0.5) + jitter * spread_y) * spacing
    # Tissue does not have rows, so the lattice is warped until its rows are not visible.
    bent_x = x + _WARP_PX * value_noise(seed, 26, x, y, 70)
    bent_y = y + _WARP_PX * value_noise(seed, 27, x, y, 70)
    return Nodes(seed, salt, column, row, bent_x.astype(np.float32), bent_y.astype(np.float32))


def in_tumor(anatomy: Anatomy, nodes: Nodes) -> NDArray[np.bool_]:
    """Return which nodes are tumour; infiltrating tumour cells thin out across its edge."""
    tumor = anatomy.tumor(nodes.x, nodes.y)
    if anatomy.is_varied:
        tumor = tumor + np.float32(INFILTRATION) * (2 * nodes.chance(5) - 1)
    return np.asarray(tumor > 0)


def repeated(nodes: Nodes, count: int) -> tuple[Nodes, NDArray[np.int64]]:
    """Return `count` nodes without a position for each node, and their numbers."""
    which = np.tile(np.arange(count), len(nodes.x))
    around = np.repeat(nodes.column * 131 + nodes.row * 7919, count)
    nowhere = np.empty(0, np.float32)
    salt = nodes.salt * 64 + 30 + count
    return Nodes(nodes.seed, salt, around, which, nowhere, nowhere), which


def ring(
    nodes: Nodes,
    radius_x: NDArray[np.floating],
    radius_y: NDArray[np.floating],
    angle: NDArray[np.floating],
    *,
    count: int,
    size: float,
    darkness: float,
    rough: float = 0.08,
) -> Shapes:
    """Return `count` nuclei around each node, with their long axes towards the node."""
    several, which = repeated(nodes, count)
    turn = (which + 0.5 * several.chance(0)) * (2 * np.pi / count)
    wobble = 1 + 0.16 * (several.chance(1) - 0.5)
    along = np.repeat(radius_x, count) * wobble * np.cos(turn)
    across = np.repeat(radius_y, count) * wobble * np.sin(turn)
    cos, sin = np.repeat(np.cos(angle), count), np.repeat(np.sin(angle), count)
    x = np.repeat(nodes.x, count) + along * cos - across * sin
    y = np.repeat(nodes.y, count) + along * sin + across * cos
    long = size * (0.85 + 0.35 * several.chance(2))
    direction = np.arctan2(y - np.repeat(nodes.y, count), x - np.repeat(nodes.x, count))
    return nuclei(
        x.astype(np.float32),
        y.astype(np.float32),
        long,
        long * (0.7 + 0.25 * several.chance(3)),
        direction.astype(np.float32),
        several,
        darkness,
        rough=rough,
    )


def nuclei(
    x: Floats,
    y: Floats,
    long: NDArray[np.floating],
    short: NDArray[np.floating],
    angle: NDArray[np.floating],
    nodes: Nodes,
    darkness: float,
    *,
    rough: float = 0.08,
) -> Shapes:
    outlines = outlines_of(x, y, long, short, angle, nodes, rough=rough)
    density = darkness * (0.75 + 0.5 * nodes.chance(9))
    n = len(outlines)
    return Shapes(
        outlines,
        density.astype(np.float32),
        np.full(n, np.nan, np.float32),
        np.zeros(n, np.bool_),
    )


def outlines_of(
    x: Floats,
    y: Floats,
    long: NDArray[np.floating],
    short: NDArray[np.floating],
    angle: NDArray[np.floating],
    nodes: Nodes,
    *,
    rough: float = 0.1,
) -> Floats:
    """Return ellipses whose radius varies by the fraction `rough`, float32 (N, vertices, 2)."""
    bumps = np.stack([nodes.chance(10 + vertex) for vertex in range(_VERTICES)], axis=1)
    reach = 1 + rough * 2 * (bumps - 0.5)
    along = long[:, None] * reach * np.cos(_ANGLES)
    across = short[:, None] * reach * np.sin(_ANGLES)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return np.stack(
        [x[:, None] + along * cos - across * sin, y[:, None] + along * sin + across * cos], axis=2
    ).astype(np.float32)


def filled(outlines: Floats, *, hematoxylin: float, eosin: float) -> Shapes:
    n = len(outlines)
    return Shapes(
        outlines,
        np.full(n, hematoxylin, np.float32),
        np.full(n, eosin, np.float32),
        np.zeros(n, np.bool_),
    )


def membranous_cells(shapes: Shapes) -> Shapes:
    return Shapes(
        shapes.outlines,
        shapes.hematoxylin,
        shapes.eosin,
        np.ones(len(shapes.outlines), np.bool_),
    )


def fibre_angle(seed: int, x: Floats, y: Floats) -> Floats:
    """Compute the direction of stromal fibres, in radians, which changes slowly over the slide."""
    return value_noise(seed, 20, x, y, 330) * np.float32(2.2)
