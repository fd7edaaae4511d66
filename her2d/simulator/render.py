"""Rendering a rectangle of a planned slide, with its ground truth.

Rendering is a pure function of its arguments, so a pixel is the same in every rectangle that
contains it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import signal
from threadpoolctl import ThreadpoolController

from her2d.method import MAGNIFICATION
from her2d.simulator.anatomy import Anatomy, anatomy_of
from her2d.simulator.artefacts import spoiled
from her2d.simulator.cells import shapes_in
from her2d.simulator.noise import Floats, grid_noise, uniform
from her2d.simulator.plan import SlidePlan
from her2d.simulator.shapes import Box, Shapes
from her2d.simulator.stain import developed, developed_ihc, stain_of

_MARGIN_PX = 12
_SHIFT = 4
_ROUNDING = 4
_DENSITY_SCALE = 150.0
_BLAS = ThreadpoolController()


@dataclass(frozen=True, slots=True)
class Region:
    """A rendered rectangle of a slide.

    Attributes:
        rgb: uint8 (H, W, 3).
        tumor: bool (H, W).
        strong: bool (H, W), tumour with HER2-high morphology; within `tumor`.
    """

    rgb: NDArray[np.uint8]
    tumor: NDArray[np.bool_]
    strong: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _View:
    """A raster of pixels on the slide, with the positions of their centres in 4x pixels."""

    x: Floats
    y: Floats
    left: int
    top: int
    scale: float

    @property
    def box(self) -> Box:
        step = 1 / self.scale
        return Box(
            float(self.x[0]) - step,
            float(self.y[0]) - step,
            float(self.x[-1]) + step,
            float(self.y[-1]) + step,
        )


@contextmanager
def _on_one_thread() -> Iterator[None]:
    """Limit BLAS to one thread.

    The matrix products of a region are too small for several threads: two processes that rendered
    at the same time with threads in BLAS each took eight times as long.
    """
    with _BLAS.limit(limits=1, user_api="blas"):
        yield


@_on_one_thread()
def render_region(
    plan: SlidePlan,
    x: int,
    y: int,
    width: int,
    height: int,
    *,
    magnification: float = MAGNIFICATION,
) -> Region:
    """Render the H&E pixels and the ground truth of a rectangle.

    The area beyond the edge of the slide is background.

    Args:
        plan: the slide.
        x, y, width, height: the rectangle, in pixels at `magnification`.
        magnification: objective magnification of the pixels.
    """
    anatomy = anatomy_of(plan)
    inner = _view(x, y, width, height, magnification)
    masks = anatomy.masks(inner.x, inner.y)
    view = _view(
        x - _MARGIN_PX,
        y - _MARGIN_PX,
        width + 2 * _MARGIN_PX,
        height + 2 * _MARGIN_PX,
        magnification,
    )
    tissue = anatomy.masks(view.x, view.y).tissue
    if tissue.any():
        hematoxylin, eosin = _he_dyes(anatomy, plan.seed, view, tissue)
        light = developed(stain_of(plan.seed), hematoxylin, eosin)
    else:
        light = np.full((*tissue.shape, 3), 244, np.float32)
    light = spoiled(light, plan, view.x, view.y)
    return Region(_photographed(light, plan.seed, view), masks.tumor, masks.strong)


@_on_one_thread()
def render_ihc_region(
    plan: SlidePlan,
    x: int,
    y: int,
    width: int,
    height: int,
    *,
    magnification: float = MAGNIFICATION,
) -> NDArray[np.uint8]:
    """Render the aligned IHC slide, which has brown membranes where HER2 is high.

    Args:
        plan: the slide.
        x, y, width, height: the rectangle, in pixels at `magnification`.
        magnification: objective magnification of the pixels.

    Returns:
        uint8 (height, width, 3) RGB.
    """
    anatomy = anatomy_of(plan)
    view = _view(
        x - _MARGIN_PX,
        y - _MARGIN_PX,
        width + 2 * _MARGIN_PX,
        height + 2 * _MARGIN_PX,
        magnification,
    )
    tissue = anatomy.masks(view.x, view.y).tissue
    shapes = shapes_in(anatomy, plan.seed, view.box)
    hematoxylin, _ = _painted(shapes, tissue, view, np.full(tissue.shape, 0.12, np.float32))
    dab = _membranes(shapes, view, tissue.shape)
    light = developed_ihc(hematoxylin * tissue, dab * tissue)
    return _photographed(light, plan.seed + 1, view)


def _view(x: int, y: int, width: int, height: int, magnification: float) -> _View:
    scale = magnification / MAGNIFICATION
    across = ((np.arange(x, x + width) + 0.5) / scale).astype(np.float32)
    down = ((np.arange(y, y + height) + 0.5) / scale).astype(np.float32)
    return _View(across, down, x, y, scale)


def _he_dyes(
    anatomy: Anatomy, seed: int, view: _View, tissue: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    fibres = grid_noise(seed, 21, view.x, view.y, 9.0, 3.2)
    grain = grid_noise(seed, 22, view.x, view.y, 2.2, 2.2)
    slow = grid_noise(seed, 23, view.x, view.y, 420.0, 420.0)
    slower = grid_noise(seed, 24, view.x, view.y, 380.0, 380.0)
    eosin = 0.34 + 0.07 * fibres + 0.035 * grain
    hematoxylin = 0.07 + 0.02 * grain
    tumor = anatomy.masks(view.x, view.y).tumor
    # Tumour has many cells, whose cytoplasm takes more haematoxylin and hides the fibres.
    eosin = np.where(tumor, 0.30 + 0.02 * fibres + 0.05 * grain, eosin)
    hematoxylin = np.where(tumor, 0.14 + 0.03 * grain, hematoxylin)
    shapes = shapes_in(anatomy, seed, view.box)
    hematoxylin, eosin = _painted(shapes, tissue, view, hematoxylin, eosin)
    chromatin = grid_noise(seed, 25, view.x, view.y, 0.7, 0.7) if view.scale > 1 else grain
    hematoxylin *= 1 + 0.12 * chromatin
    return (
        np.asarray(hematoxylin * (1 + 0.22 * slow) * tissue, np.float32),
        np.asarray(eosin * (1 + 0.25 * slower) * tissue, np.float32),
    )


def _painted(
    shapes: Shapes,
    tissue: NDArray[np.bool_],
    view: _View,
    hematoxylin: Floats,
    eosin: Floats | None = None,
) -> tuple[Floats, Floats]:
    """Fill the shapes, in order, into the densities of the two dyes."""
    if eosin is None:
        eosin = np.zeros(tissue.shape, np.float32)
    canvas_h, canvas_e = _canvas(hematoxylin), _canvas(eosin)
    points = _to_raster(shapes.outlines, view)
    visible = _visible(points, tissue.shape)
    densities = (shapes.hematoxylin * _DENSITY_SCALE).clip(0, 255)
    eosins = (shapes.eosin * _DENSITY_SCALE).clip(0, 255)
    has_eosin = ~np.isnan(shapes.eosin)
    for index in np.flatnonzero(visible):
        cv2.fillConvexPoly(canvas_h, points[index], float(densities[index]), cv2.LINE_AA, _SHIFT)
        if has_eosin[index]:
            cv2.fillConvexPoly(canvas_e, points[index], float(eosins[index]), cv2.LINE_AA, _SHIFT)
    return canvas_h.astype(np.float32) / _DENSITY_SCALE, canvas_e.astype(
        np.float32
    ) / _DENSITY_SCALE


def _membranes(shapes: Shapes, view: _View, shape: tuple[int, ...]) -> Floats:
    canvas = np.zeros(shape, np.uint8)
    cells = shapes.outlines[shapes.membranous]
    # The membrane of a cell lies outside its nucleus.
    membranes = cells + 0.45 * (cells - cells.mean(axis=1, keepdims=True))
    points = _to_raster(membranes, view)
    thickness = max(1, round(0.8 * view.scale))
    for index in np.flatnonzero(_visible(points, shape)):
        cv2.polylines(canvas, [points[index]], True, 140.0, thickness, cv2.LINE_AA, _SHIFT)
    return canvas.astype(np.float32) / _DENSITY_SCALE


def _canvas(density: Floats) -> NDArray[np.uint8]:
    return (density * _DENSITY_SCALE).clip(0, 255).astype(np.uint8)


def _to_raster(outlines: Floats, view: _View) -> NDArray[np.int32]:
    """Convert 4x pixels to fixed-point coordinates of cv2, whose integers are pixel centres."""
    if view.scale > 1 and len(outlines):
        # Corners are invisible at 4x; at higher magnifications they are rounded.
        outlines = signal.resample(outlines, outlines.shape[1] * _ROUNDING, axis=1)
    origin = np.array([view.left, view.top], np.float32)
    pixels = outlines * np.float32(view.scale) - origin - np.float32(0.5)
    return np.round(pixels * (1 << _SHIFT)).astype(np.int32)


def _visible(points: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if not len(points):
        return np.zeros(0, np.bool_)
    low, high = points.min(axis=1), points.max(axis=1)
    limit = np.array([shape[1], shape[0]]) << _SHIFT
    return np.asarray((high >= 0).all(axis=1) & (low < limit).all(axis=1))


def _photographed(light: Floats, seed: int, view: _View) -> NDArray[np.uint8]:
    """Apply the slight blur and noise of optics and sensor, and cut the margin off."""
    sharp = cv2.GaussianBlur(light, (0, 0), 0.55)
    inner = sharp[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
    height, width = inner.shape[:2]
    column = np.arange(view.left + _MARGIN_PX, view.left + _MARGIN_PX + width)[None, :]
    row = np.arange(view.top + _MARGIN_PX, view.top + _MARGIN_PX + height)[:, None]
    noise = uniform(seed, 99, column, row) - np.float32(0.5)
    return np.asarray((inner + 5.0 * noise[..., None]).clip(0, 255).round(), np.uint8)
