"""Growth of a histology: papillae, cribriform glands, signet-ring cells, mucin and follicles."""

import numpy as np
from numpy.typing import NDArray

from her2d.simulator.anatomy import Anatomy
from her2d.simulator.growth import Growth
from her2d.simulator.noise import Floats
from her2d.simulator.shapes import (
    Box,
    Nodes,
    Shapes,
    fibre_angle,
    filled,
    in_tumor,
    lattice_nodes,
    membranous_cells,
    nuclei,
    outlines_of,
    repeated,
    ring,
)

GERMINAL_CENTER = 0.46
"""Value of the field of follicles from which there is a germinal centre."""


def papillae(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return papillae: fingers with a core of stroma and vessels, in a cleft.

    Tall cells stand on both sides of the core, with their long axes across it.
    """
    nodes = _growing(anatomy, Growth.PAPILLARY, lattice_nodes(seed, 30, box, 33.0, 0.6))
    angle = fibre_angle(seed, nodes.x, nodes.y) + 1.5 * (nodes.chance(1) - 0.5)
    long = 16 + 16 * nodes.chance(2)
    wide = 8 + 2.5 * nodes.chance(3)

    def oval(part_of_length: float, width: NDArray[np.floating]) -> Floats:
        return outlines_of(nodes.x, nodes.y, long * part_of_length, width, angle, nodes)

    return [
        filled(oval(1.16, wide + 4.5), hematoxylin=0.03, eosin=0.06),
        filled(oval(1.0, wide), hematoxylin=0.20, eosin=0.30),
        filled(oval(0.92, wide * 0.22), hematoxylin=0.08, eosin=0.44),
        membranous_cells(_palisade(nodes, long, wide, angle)),
    ]


def cribriform_glands(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return cribriform (adenoid) nests: sheets of cells with several round holes punched out."""
    nodes = _growing(anatomy, Growth.CRIBRIFORM, lattice_nodes(seed, 31, box, 50.0, 0.35))
    radius = 20 + 6 * nodes.chance(2)
    squash = 0.75 + 0.25 * nodes.chance(3)
    angle = nodes.chance(1) * 6
    nest = outlines_of(nodes.x, nodes.y, radius * 1.06, radius * squash * 1.06, angle, nodes)
    cells = [
        ring(
            nodes,
            radius * part,
            radius * squash * part,
            angle,
            count=count,
            size=2.1,
            darkness=0.9,
            rough=0.2,
        )
        for part, count in ((0.94, 25), (0.74, 17), (0.42, 11), (0.16, 5))
    ]
    several, which = repeated(nodes, 5)
    turn = np.repeat(angle, 5) + (which + 0.5 * several.chance(0)) * (2 * np.pi / 5)
    reach = np.repeat(radius, 5) * 0.56
    x = np.repeat(nodes.x, 5) + reach * np.cos(turn)
    y = np.repeat(nodes.y, 5) + reach * np.sin(turn) * np.repeat(squash, 5)
    hole = 2.7 + 1.7 * several.chance(2)
    holes = outlines_of(
        x.astype(np.float32), y.astype(np.float32), hole, hole * 0.9, turn, several, rough=0.06
    )
    return [
        filled(nest, hematoxylin=0.20, eosin=0.28),
        *[membranous_cells(cell) for cell in cells],
        filled(holes, hematoxylin=0.03, eosin=0.06),
    ]


def signet_ring_cells(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return signet-ring cells: a drop of mucin that presses the nucleus flat against the rim."""
    nodes = _growing(anatomy, Growth.SIGNET_RING, lattice_nodes(seed, 32, box, 9.2, 0.8))
    nodes = nodes.where(nodes.chance(0) < 0.85)
    radius = 3.2 + 1.1 * nodes.chance(2)
    angle = nodes.chance(1) * np.float32(2 * np.pi)
    rim = outlines_of(nodes.x, nodes.y, radius, radius * 0.92, angle, nodes, rough=0.05)
    drop = outlines_of(nodes.x, nodes.y, radius * 0.8, radius * 0.72, angle, nodes, rough=0.05)
    nucleus = nuclei(
        (nodes.x + 0.74 * radius * np.cos(angle)).astype(np.float32),
        (nodes.y + 0.74 * radius * np.sin(angle)).astype(np.float32),
        radius * 0.82,
        0.95 + 0.35 * nodes.chance(3),
        (angle + np.float32(np.pi / 2)).astype(np.float32),
        nodes,
        1.25,
    )
    return [
        filled(rim, hematoxylin=0.30, eosin=0.42),
        filled(drop, hematoxylin=0.06, eosin=0.08),
        membranous_cells(nucleus),
    ]


def floating_clusters(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return the clusters of tumour cells that float in lakes of mucin."""
    nodes = lattice_nodes(seed, 33, box, 30.0, 0.9)
    keep = (anatomy.lake(nodes.x, nodes.y) > 0.08) & (nodes.chance(0) < 0.55)
    nodes = nodes.where(keep)
    long = 6.5 + 6 * nodes.chance(2)
    short = 4.5 + 1.5 * nodes.chance(3)
    angle = nodes.chance(1) * 6
    cluster = outlines_of(nodes.x, nodes.y, long * 1.25, short * 1.3, angle, nodes)
    cells = [
        ring(
            nodes,
            long * part,
            short * part,
            angle,
            count=count,
            size=2.3,
            darkness=0.95,
            rough=0.2,
        )
        for part, count in ((0.95, 11), (0.4, 4))
    ]
    return [
        filled(cluster, hematoxylin=0.16, eosin=0.28),
        *[membranous_cells(cell) for cell in cells],
    ]


def germinal_centers(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return the large pale nuclei in the middle of lymphoid follicles."""
    nodes = lattice_nodes(seed, 34, box, 5.6, 0.8)
    keep = (
        (anatomy.follicle(nodes.x, nodes.y) > GERMINAL_CENTER)
        & (anatomy.tumor(nodes.x, nodes.y) <= 0)
        & (anatomy.tissue(nodes.x, nodes.y) > 0.04)
    )
    nodes = nodes.where(keep & (nodes.chance(0) < 0.85))
    radius = 1.5 + 0.6 * nodes.chance(2)
    return [nuclei(nodes.x, nodes.y, radius, radius * 0.85, nodes.chance(1) * 6, nodes, 0.45)]


def _growing(anatomy: Anatomy, growth: Growth, nodes: Nodes) -> Nodes:
    return nodes.where(in_tumor(anatomy, nodes) & (anatomy.growth(nodes.x, nodes.y) == growth))


def _palisade(
    nodes: Nodes,
    long: NDArray[np.floating],
    wide: NDArray[np.floating],
    angle: NDArray[np.floating],
    *,
    count: int = 26,
) -> Shapes:
    """Return nuclei on both sides of each node's axis, with their long axes across it."""
    several, which = repeated(nodes, count)
    along = np.linspace(-0.92, 0.92, count // 2, dtype=np.float32)[which // 2]
    along = along + 0.05 * (several.chance(0) - 0.5)
    side = (which % 2 * 2 - 1) * (0.58 + 0.14 * several.chance(1))
    length = np.repeat(long, count) * along
    across = np.repeat(wide, count) * side * np.sqrt(1 - 0.75 * along**2)
    cos, sin = np.repeat(np.cos(angle), count), np.repeat(np.sin(angle), count)
    tilt = (several.chance(4) - 0.5) * 0.5
    return nuclei(
        (np.repeat(nodes.x, count) + length * cos - across * sin).astype(np.float32),
        (np.repeat(nodes.y, count) + length * sin + across * cos).astype(np.float32),
        2.1 + 0.8 * several.chance(2),
        1.35 + 0.4 * several.chance(3),
        (np.repeat(angle, count) + np.float32(np.pi / 2) + tilt).astype(np.float32),
        several,
        0.9,
        rough=0.2,
    )
