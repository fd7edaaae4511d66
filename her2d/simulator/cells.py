"""Nuclei, glands and tubules as polygons, in 4x pixels.

At 4x (2.5 um per pixel) a normal nucleus has a diameter of about 3 px, and a nucleus of tumour one
of 5 px.
"""

import numpy as np
from numpy.typing import NDArray

from her2d.simulator.anatomy import Anatomy
from her2d.simulator.growth import Growth
from her2d.simulator.patterns import (
    GERMINAL_CENTER,
    cribriform_glands,
    floating_clusters,
    germinal_centers,
    papillae,
    signet_ring_cells,
)
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
    ring,
)

REACH_PX = 56.0
"""The largest distance of a point of an object from its node."""


def shapes_in(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return all objects that can reach into `box`, in drawing order."""
    near = box.grown(REACH_PX)
    parts = [
        *_glands(anatomy, seed, near),
        *_tubules(anatomy, seed, near),
        *(papillae(anatomy, seed, near) if anatomy.has(Growth.PAPILLARY) else []),
        *(cribriform_glands(anatomy, seed, near) if anatomy.has(Growth.CRIBRIFORM) else []),
        _stromal_nuclei(anatomy, seed, near),
        _lymphocytes(anatomy, seed, near),
        *(germinal_centers(anatomy, seed, near) if anatomy.follicles else []),
        _vacuoles(anatomy, seed, near),
        _diffuse_nuclei(anatomy, seed, near),
        *(signet_ring_cells(anatomy, seed, near) if anatomy.has(Growth.SIGNET_RING) else []),
        *(floating_clusters(anatomy, seed, near) if anatomy.has(Growth.MUCINOUS) else []),
    ]
    return Shapes.joined([part for part in parts if len(part.outlines)] or parts[:1])


def _stromal_nuclei(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return spindle-shaped nuclei along the fibres, fewer of them within tumour."""
    nodes = lattice_nodes(seed, 1, box, spacing=11.0, jitter=0.9)
    tumor = anatomy.tumor(nodes.x, nodes.y) > 0
    keep = (anatomy.tissue(nodes.x, nodes.y) > 0.02) & (
        nodes.chance(0) < np.where(tumor, 0.25, 0.8)
    )
    if anatomy.has(Growth.MUCINOUS):
        keep &= anatomy.lake(nodes.x, nodes.y) <= 0
    nodes = nodes.where(keep)
    angle = fibre_angle(seed, nodes.x, nodes.y) + (nodes.chance(1) - 0.5) * 0.7
    long = 2.2 + 1.3 * nodes.chance(2)
    return nuclei(nodes.x, nodes.y, long, 0.8 + 0.3 * nodes.chance(3), angle, nodes, 0.75)


def _lymphocytes(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return small, round, dark, crowded nuclei, which are easily mistaken for tumour."""
    nodes = lattice_nodes(seed, 2, box, spacing=4.2, jitter=0.8)
    tumor = anatomy.tumor(nodes.x, nodes.y) > 0
    density = np.where(tumor, 0.0, 0.85)
    if anatomy.follicles:
        density = np.where(anatomy.follicle(nodes.x, nodes.y) > GERMINAL_CENTER, 0.08, density)
    keep = (
        (anatomy.lymphoid(nodes.x, nodes.y) > 0)
        & (anatomy.tissue(nodes.x, nodes.y) > 0.04)
        & (nodes.chance(0) < density)
    )
    nodes = nodes.where(keep)
    radius = 1.25 + 0.35 * nodes.chance(2)
    return nuclei(nodes.x, nodes.y, radius, radius, nodes.chance(1) * 3, nodes, 1.15)


def _diffuse_nuclei(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return the nuclei of poorly cohesive tumour: large, irregular, without order."""
    nodes = lattice_nodes(seed, 3, box, spacing=6.5, jitter=1.0)
    nodes = nodes.where(_is_loose(anatomy, nodes) & (nodes.chance(0) < 0.9))
    radius = 1.9 + 1.1 * nodes.chance(2)
    narrow = radius * (0.7 + 0.3 * nodes.chance(3))
    found = nuclei(nodes.x, nodes.y, radius, narrow, nodes.chance(1) * 6, nodes, 0.9, rough=0.25)
    return membranous_cells(found) if anatomy.is_varied else found


def _is_loose(anatomy: Anatomy, nodes: Nodes) -> NDArray[np.bool_]:
    """Return which nodes are in poorly cohesive tumour, outside of mucin."""
    growth = anatomy.growth(nodes.x, nodes.y)
    loose = in_tumor(anatomy, nodes) & ((growth == Growth.DIFFUSE) | (growth == Growth.MUCINOUS))
    if anatomy.has(Growth.MUCINOUS):
        loose &= anatomy.lake(nodes.x, nodes.y) <= 0
    return np.asarray(loose)


def _vacuoles(anatomy: Anatomy, seed: int, box: Box) -> Shapes:
    """Return clefts and vacuoles of poorly cohesive tumour, as white as lumina of tubules."""
    nodes = lattice_nodes(seed, 4, box, spacing=19.0, jitter=1.0)
    nodes = nodes.where(_is_loose(anatomy, nodes))
    radius = 1.6 + 2.4 * nodes.chance(2)
    outlines = outlines_of(
        nodes.x, nodes.y, radius, radius * (0.5 + 0.5 * nodes.chance(3)), nodes.chance(1) * 6, nodes
    )
    return filled(outlines, hematoxylin=0.03, eosin=0.06)


def _glands(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return the glands of normal mucosa.

    They are round, with one ring of small regular nuclei at the base, and pale mucin.
    """
    nodes = lattice_nodes(seed, 5, box, spacing=41.0, jitter=0.35)
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
    cytoplasm = outlines_of(nodes.x, nodes.y, radius * 1.12, radius * squash * 1.12, angle, nodes)
    lumen = outlines_of(nodes.x, nodes.y, radius * 0.45, radius * squash * 0.4, angle, nodes)
    wall = ring(nodes, radius, radius * squash, angle, count=17, size=1.3, darkness=0.75)
    return [
        filled(cytoplasm, hematoxylin=0.10, eosin=0.22),
        filled(lumen, hematoxylin=0.03, eosin=0.05),
        wall,
    ]


def _tubules(anatomy: Anatomy, seed: int, box: Box) -> list[Shapes]:
    """Return the tubules of tumour, which without a histology is HER2-high.

    They are cohesive and back to back, with crowded large nuclei around each lumen.
    """
    nodes = lattice_nodes(seed, 6, box, spacing=35.0, jitter=0.45)
    is_tubular = anatomy.growth(nodes.x, nodes.y) == Growth.TUBULAR
    nodes = nodes.where(in_tumor(anatomy, nodes) & is_tubular)
    radius = 11.5 + 4.5 * nodes.chance(2)
    squash = 0.6 + 0.4 * nodes.chance(3)
    angle = nodes.chance(1) * 6
    lumen = outlines_of(
        nodes.x, nodes.y, radius * 0.42, radius * squash * 0.36, angle, nodes, rough=0.22
    )
    outer = ring(
        nodes, radius, radius * squash, angle, count=17, size=2.3, darkness=0.9, rough=0.25
    )
    inner = ring(
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
        filled(lumen, hematoxylin=0.03, eosin=0.06),
        membranous_cells(outer),
        membranous_cells(inner),
    ]
