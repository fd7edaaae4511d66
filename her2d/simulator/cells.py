"""Nuclei, glands and tubules as polygons, in 4x pixels.

Every object belongs to a node of an unbounded jittered lattice, so the objects of a region are
those of the nodes around it. At 4x (2.5 um per pixel) a normal nucleus has a diameter of about
3 px, and a nucleus of tumour one of 5 px.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.simulator.anatomy import Anatomy
from her2d.simulator.noise import Floats, uniform, value_noise

REACH_PX = 56.0
"""The largest distance of a point of an object from its node."""

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
class _Nodes:
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

    def where(self, keep: NDArray[np.bool_]) -> "_Nodes":
        return _Nodes(
            self.seed,
            self.salt,
            self.column[keep],
            self.row[keep],
            self.x[keep],
            self.y[keep],
        )


def shapes_in(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return all objects that can reach into `box`, in drawing order."""
    near = box.grown(REACH_PX)
    parts = [
        *_glands(anatomy, seed, near),
        *_tubules(anatomy, seed, near),
        _stromal_nuclei(anatomy, seed, near),
        _lymphocytes(anatomy, seed, near),
        _vacuoles(anatomy, seed, near),
        _diffuse_nuclei(anatomy, seed, near),
    ]
    return Shapes.joined([part for part in parts if len(part.outlines)] or parts[:1])


def _nodes(seed: int, salt: int, box: Box, spacing: float, jitter: float) -> _Nodes:
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
    return _Nodes(seed, salt, column, row, bent_x.astype(np.float32), bent_y.astype(np.float32))


def _stromal_nuclei(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return spindle-shaped nuclei along the fibres, fewer of them within tumour."""
    nodes = _nodes(seed, 1, box, spacing=11.0, jitter=0.9)
    tumor = anatomy.tumor(nodes.x, nodes.y) > 0
    keep = (anatomy.tissue(nodes.x, nodes.y) > 0.02) & (
        nodes.chance(0) < np.where(tumor, 0.25, 0.8)
    )
    nodes = nodes.where(keep)
    angle = fibre_angle(seed, nodes.x, nodes.y) + (nodes.chance(1) - 0.5) * 0.7
    long = 2.2 + 1.3 * nodes.chance(2)
    return _nuclei(nodes.x, nodes.y, long, 0.8 + 0.3 * nodes.chance(3), angle, nodes, 0.75)


def _lymphocytes(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return small, round, dark, crowded nuclei, which are easily mistaken for tumour."""
    nodes = _nodes(seed, 2, box, spacing=4.2, jitter=0.8)
    tumor = anatomy.tumor(nodes.x, nodes.y) > 0
    density = np.where(tumor, 0.0, 0.85)
    keep = (
        (anatomy.lymphoid(nodes.x, nodes.y) > 0)
        & (anatomy.tissue(nodes.x, nodes.y) > 0.04)
        & (nodes.chance(0) < density)
    )
    nodes = nodes.where(keep)
    radius = 1.25 + 0.35 * nodes.chance(2)
    return _nuclei(nodes.x, nodes.y, radius, radius, nodes.chance(1) * 3, nodes, 1.15)


def _diffuse_nuclei(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return the nuclei of HER2-low tumour: large, irregular, poorly cohesive, without order."""
    nodes = _nodes(seed, 3, box, spacing=6.5, jitter=1.0)
    weak = (anatomy.tumor(nodes.x, nodes.y) > 0) & (anatomy.strong(nodes.x, nodes.y) <= 0)
    nodes = nodes.where(weak & (nodes.chance(0) < 0.9))
    radius = 1.9 + 1.1 * nodes.chance(2)
    narrow = radius * (0.7 + 0.3 * nodes.chance(3))
    return _nuclei(nodes.x, nodes.y, radius, narrow, nodes.chance(1) * 6, nodes, 0.9, rough=0.25)


def _vacuoles(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return clefts and vacuoles of HER2-low tumour, as much white area as lumina of tubules."""
    nodes = _nodes(seed, 4, box, spacing=19.0, jitter=1.0)
    weak = (anatomy.tumor(nodes.x, nodes.y) > 0) & (anatomy.strong(nodes.x, nodes.y) <= 0)
    nodes = nodes.where(weak)
    radius = 1.6 + 2.4 * nodes.chance(2)
    outlines = _outlines(
        nodes.x, nodes.y, radius, radius * (0.5 + 0.5 * nodes.chance(3)), nodes.chance(1) * 6, nodes
    )
    return _filled(outlines, hematoxylin=0.03, eosin=0.06)


def _glands(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return the glands of normal mucosa.

    They are round, with one ring of small regular nuclei at the base, and pale mucin.
    """
    nodes = _nodes(seed, 5, box, spacing=41.0, jitter=0.35)
    keep = (
        (anatomy.mucosa(nodes.x, nodes.y) > 0)
        & (anatomy.tumor(nodes.x, nodes.y) <= -0.02)
        & (anatomy.tissue(nodes.x, nodes.y) > 0.1)
        & (anatomy.lymphoid(nodes.x, nodes.y) <= 0)
    )
    nodes = nodes.where(keep)
    radius = 12.5 + 4.5 * nodes.chance(2)
    squash = 0.75 + 0.25 * nodes.chance(3)
    angle = nodes.chance(1) * 6
    cytoplasm = _outlines(nodes.x, nodes.y, radius * 1.12, radius * squash * 1.12, angle, nodes)
    lumen = _outlines(nodes.x, nodes.y, radius * 0.45, radius * squash * 0.4, angle, nodes)
    ring = _ring(nodes, radius, radius * squash, angle, count=17, size=1.3, darkness=0.75)
    return [
        _filled(cytoplasm, hematoxylin=0.10, eosin=0.22),
        _filled(lumen, hematoxylin=0.03, eosin=0.05),
        ring,
    ]


def _tubules(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return the tubules of HER2-high tumour.

    They are cohesive and back to back, with crowded large nuclei around each lumen.
    """
    nodes = _nodes(seed, 6, box, spacing=35.0, jitter=0.45)
    keep = (anatomy.tumor(nodes.x, nodes.y) > 0) & (anatomy.strong(nodes.x, nodes.y) > 0)
    nodes = nodes.where(keep)
    radius = 11.5 + 4.5 * nodes.chance(2)
    squash = 0.6 + 0.4 * nodes.chance(3)
    angle = nodes.chance(1) * 6
    lumen = _outlines(
        nodes.x, nodes.y, radius * 0.42, radius * squash * 0.36, angle, nodes, rough=0.22
    )
    outer = _ring(
        nodes, radius, radius * squash, angle, count=17, size=2.3, darkness=0.9, rough=0.25
    )
    inner = _ring(
        nodes,
        radius * 0.68,
        radius * squash * 0.66,
        angle,
        count=11,
        size=2.2,
        darkness=0.9,
        rough=0.25,
    )
    return [
        _filled(lumen, hematoxylin=0.03, eosin=0.06),
        _membranous(outer),
        _membranous(inner),
    ]


def fibre_angle(seed: int, x: Floats, y: Floats) -> Floats:
    """Compute the direction of stromal fibres, in radians, which changes slowly over the slide."""
    return value_noise(seed, 20, x, y, 330) * np.float32(2.2)


def _ring(
    nodes: _Nodes,
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
    n = len(nodes.x)
    which = np.tile(np.arange(count), n)
    around = np.repeat(nodes.column * 131 + nodes.row * 7919, count)
    salt = nodes.salt * 64 + 30 + count
    several = _Nodes(
        nodes.seed, salt, around, which, np.empty(0, np.float32), np.empty(0, np.float32)
    )
    turn = (which + 0.5 * several.chance(0)) * (2 * np.pi / count)
    wobble = 1 + 0.16 * (several.chance(1) - 0.5)
    along = np.repeat(radius_x, count) * wobble * np.cos(turn)
    across = np.repeat(radius_y, count) * wobble * np.sin(turn)
    cos, sin = np.repeat(np.cos(angle), count), np.repeat(np.sin(angle), count)
    x = np.repeat(nodes.x, count) + along * cos - across * sin
    y = np.repeat(nodes.y, count) + along * sin + across * cos
    long = size * (0.85 + 0.35 * several.chance(2))
    direction = np.arctan2(y - np.repeat(nodes.y, count), x - np.repeat(nodes.x, count))
    return _nuclei(
        x.astype(np.float32),
        y.astype(np.float32),
        long,
        long * (0.7 + 0.25 * several.chance(3)),
        direction.astype(np.float32),
        several,
        darkness,
        rough=rough,
    )


def _nuclei(
    x: Floats,
    y: Floats,
    long: NDArray[np.floating],
    short: NDArray[np.floating],
    angle: NDArray[np.floating],
    nodes: _Nodes,
    darkness: float,
    *,
    rough: float = 0.08,
) -> Shapes:
    outlines = _outlines(x, y, long, short, angle, nodes, rough=rough)
    density = darkness * (0.75 + 0.5 * nodes.chance(9))
    n = len(outlines)
    return Shapes(
        outlines,
        density.astype(np.float32),
        np.full(n, np.nan, np.float32),
        np.zeros(n, np.bool_),
    )


def _outlines(
    x: Floats,
    y: Floats,
    long: NDArray[np.floating],
    short: NDArray[np.floating],
    angle: NDArray[np.floating],
    nodes: _Nodes,
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


def _filled(outlines: Floats, *, hematoxylin: float, eosin: float) -> Shapes:
    n = len(outlines)
    return Shapes(
        outlines,
        np.full(n, hematoxylin, np.float32),
        np.full(n, eosin, np.float32),
        np.zeros(n, np.bool_),
    )


def _membranous(shapes: Shapes) -> Shapes:
    return Shapes(
        shapes.outlines,
        shapes.hematoxylin,
        shapes.eosin,
        np.ones(len(shapes.outlines), np.bool_),
    )
