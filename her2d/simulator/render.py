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
from her2d.simulator.anatomy import INFILTRATION, Anatomy, Masks, anatomy_of
from her2d.simulator.artefacts import spoiled
from her2d.simulator.cells import shapes_in
from her2d.simulator.centers import LIGHT, Center
from her2d.simulator.growth import Growth
from her2d.simulator.noise import Floats, grid_noise, uniform, value_noise
from her2d.simulator.patterns import GERMINAL_CENTER
from her2d.simulator.plan import SlidePlan
from her2d.simulator.shapes import Box, Shapes
from her2d.simulator.stain import developed, developed_ihc, stain_of

_MARGIN_PX = 12
_SHIFT = 4
_ROUNDING = 4
_DENSITY_SCALE = 150.0
_MEMBRANE = 140.0
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
    """A raster of pixels on the slide, with the positions of their centres in 4x pixels.

    Attributes:
        x, y: of the tissue that the pixels show.
        left, top: of the raster on the slide, in its own pixels.
        scale: pixels per 4x pixel.
        shift: of the tissue on the slide, in 4x pixels.
    """

    x: Floats
    y: Floats
    left: int
    top: int
    scale: float
    shift: tuple[float, float] = (0.0, 0.0)

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
    masks = true_region(plan, x, y, width, height, magnification=magnification)
    view = _view(
        x - _MARGIN_PX,
        y - _MARGIN_PX,
        width + 2 * _MARGIN_PX,
        height + 2 * _MARGIN_PX,
        magnification,
    )
    tissue = anatomy.tissue_mask(view.x, view.y)
    if tissue.any():
        hematoxylin, eosin = _he_dyes(anatomy, plan.seed, view, tissue)
        light = developed(stain_of(plan.seed, plan.center), hematoxylin, eosin)
    else:
        light = np.full((*tissue.shape, 3), 244, np.float32)
    light = spoiled(light, plan, view.x, view.y)
    return Region(_photographed(light, plan.seed, view, plan.center), masks.tumor, masks.strong)


@_on_one_thread()
def true_region(
    plan: SlidePlan,
    x: int,
    y: int,
    width: int,
    height: int,
    *,
    magnification: float = MAGNIFICATION,
) -> Masks:
    """Return the true masks of a rectangle without its pixels, see `render_region`."""
    view = _view(x, y, width, height, magnification)
    return anatomy_of(plan).masks(view.x, view.y)


@_on_one_thread()
def annotated_region(
    plan: SlidePlan,
    x: int,
    y: int,
    width: int,
    height: int,
    *,
    magnification: float = MAGNIFICATION,
) -> Masks:
    """Return the masks of a rectangle as an annotator drew them, see `render_region`."""
    view = _view(x, y, width, height, magnification)
    return anatomy_of(plan).annotated(view.x, view.y)


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
    """Render the IHC slide, which has brown membranes where HER2 is high.

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
        (plan.ihc.shift_x, plan.ihc.shift_y),
    )
    tissue = anatomy.tissue_mask(view.x, view.y)
    shapes = shapes_in(anatomy, plan.seed, view.box)
    hematoxylin, _ = _painted(shapes, tissue, view, np.full(tissue.shape, 0.12, np.float32))
    dab = _membranes(shapes, _dab_of(shapes, anatomy, plan), view, tissue.shape)
    if plan.ihc.noise:
        haze = grid_noise(plan.seed, 58, view.x, view.y, 60.0, 60.0)
        dab = dab + np.float32(0.02 * plan.ihc.noise) * (1 + haze)
    light = developed_ihc(hematoxylin * tissue, dab * tissue)
    return _photographed(light, plan.seed + 1, view, plan.center)


def _view(
    x: int,
    y: int,
    width: int,
    height: int,
    magnification: float,
    shift: tuple[float, float] = (0.0, 0.0),
) -> _View:
    scale = magnification / MAGNIFICATION
    across = ((np.arange(x, x + width) + 0.5) / scale - shift[0]).astype(np.float32)
    down = ((np.arange(y, y + height) + 0.5) / scale - shift[1]).astype(np.float32)
    return _View(across, down, x, y, scale, shift)


def _he_dyes(
    anatomy: Anatomy, seed: int, view: _View, tissue: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    fibres = grid_noise(seed, 21, view.x, view.y, 9.0, 3.2)
    grain = grid_noise(seed, 22, view.x, view.y, 2.2, 2.2)
    slow = grid_noise(seed, 23, view.x, view.y, 420.0, 420.0)
    slower = grid_noise(seed, 24, view.x, view.y, 380.0, 380.0)
    eosin = 0.34 + 0.07 * fibres + 0.035 * grain
    hematoxylin = 0.07 + 0.02 * grain
    # Tumour has many cells, whose cytoplasm takes more haematoxylin and hides the fibres.
    tumor_eosin = 0.30 + 0.02 * fibres + 0.05 * grain
    tumor_hematoxylin = 0.14 + 0.03 * grain
    if anatomy.is_varied:
        depth = anatomy.on_grid(anatomy.tumor, view.x, view.y)
        tumor = np.clip(depth * np.float32(0.5 / INFILTRATION) + np.float32(0.5), 0, 1)
        eosin = eosin + tumor * (tumor_eosin - eosin)
        hematoxylin = hematoxylin + tumor * (tumor_hematoxylin - hematoxylin)
        hematoxylin, eosin = _backgrounds(anatomy, seed, view, hematoxylin, eosin)
    else:
        tumor = tissue & (anatomy.on_grid(anatomy.tumor, view.x, view.y) > 0)
        eosin = np.where(tumor, tumor_eosin, eosin)
        hematoxylin = np.where(tumor, tumor_hematoxylin, hematoxylin)
    shapes = shapes_in(anatomy, seed, view.box)
    hematoxylin, eosin = _painted(shapes, tissue, view, hematoxylin, eosin)
    chromatin = grid_noise(seed, 25, view.x, view.y, 0.7, 0.7) if view.scale > 1 else grain
    hematoxylin *= 1 + 0.12 * chromatin
    return (
        np.asarray(hematoxylin * (1 + 0.22 * slow) * tissue, np.float32),
        np.asarray(eosin * (1 + 0.25 * slower) * tissue, np.float32),
    )


def _backgrounds(
    anatomy: Anatomy, seed: int, view: _View, hematoxylin: Floats, eosin: Floats
) -> tuple[Floats, Floats]:
    """Apply what lies between the cells of mucin and of follicles to the densities of the dyes."""
    if anatomy.has(Growth.MUCINOUS):
        lake = np.clip(anatomy.on_grid(anatomy.lake, view.x, view.y) * np.float32(16), 0, 1)
        wisps = grid_noise(seed, 28, view.x, view.y, 31.0, 8.0)
        eosin = eosin + lake * (0.10 + 0.04 * wisps - eosin)
        hematoxylin = hematoxylin + lake * (0.16 + 0.07 * wisps - hematoxylin)
    if anatomy.follicles:
        follicle = anatomy.on_grid(anatomy.follicle, view.x, view.y)
        mantle = np.clip(follicle * np.float32(10), 0, 1)
        middle = np.clip((follicle - np.float32(GERMINAL_CENTER)) * np.float32(16), 0, 1)
        hematoxylin = hematoxylin + mantle * 0.12 - middle * 0.06
        eosin = eosin - mantle * 0.10
    return np.asarray(hematoxylin, np.float32), np.asarray(eosin, np.float32)


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


def _dab_of(shapes: Shapes, anatomy: Anatomy, plan: SlidePlan) -> Floats:
    """Return the DAB of the membrane of each membranous cell, in parts of IHC 3+."""
    cells = shapes.outlines[shapes.membranous]
    if not anatomy.is_varied:
        return np.ones(len(cells), np.float32)
    x, y = cells.mean(axis=1).T
    is_strong = anatomy.strong(x, y) > 0
    column, row = np.floor(x * 4).astype(np.int64), np.floor(y * 4).astype(np.int64)
    single = 2 * uniform(plan.seed, 59, column, row) - 1
    varied = 1 + plan.ihc.noise * (0.6 * single + 0.4 * value_noise(plan.seed, 60, x, y, 90))
    return np.asarray(np.where(is_strong, plan.ihc.strong, plan.ihc.weak) * varied, np.float32)


def _membranes(shapes: Shapes, dab: Floats, view: _View, shape: tuple[int, ...]) -> Floats:
    canvas = np.zeros(shape, np.uint8)
    cells = shapes.outlines[shapes.membranous]
    # The membrane of a cell lies outside its nucleus.
    membranes = cells + 0.45 * (cells - cells.mean(axis=1, keepdims=True))
    points = _to_raster(membranes, view)
    thickness = max(1, round(0.8 * view.scale))
    levels = np.clip(dab * _MEMBRANE, 0, 255)
    for index in np.flatnonzero(_visible(points, shape) & (levels >= 1)):
        color = float(levels[index])
        cv2.polylines(canvas, [points[index]], True, color, thickness, cv2.LINE_AA, _SHIFT)
    return canvas.astype(np.float32) / _DENSITY_SCALE


def _canvas(density: Floats) -> NDArray[np.uint8]:
    return (density * _DENSITY_SCALE).clip(0, 255).astype(np.uint8)


def _to_raster(outlines: Floats, view: _View) -> NDArray[np.int32]:
    """Convert 4x pixels to fixed-point coordinates of cv2, whose integers are pixel centres."""
    if view.scale > 1 and len(outlines):
        # Corners are invisible at 4x; at higher magnifications they are rounded.
        outlines = signal.resample(outlines, outlines.shape[1] * _ROUNDING, axis=1)
    shift_x, shift_y = view.shift
    origin = np.array(
        [view.left - shift_x * view.scale, view.top - shift_y * view.scale], np.float32
    )
    pixels = outlines * np.float32(view.scale) - origin - np.float32(0.5)
    return np.round(pixels * (1 << _SHIFT)).astype(np.int32)


def _visible(points: NDArray[np.int32], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if not len(points):
        return np.zeros(0, np.bool_)
    low, high = points.min(axis=1), points.max(axis=1)
    limit = np.array([shape[1], shape[0]]) << _SHIFT
    return np.asarray((high >= 0).all(axis=1) & (low < limit).all(axis=1))


def _photographed(light: Floats, seed: int, view: _View, center: Center) -> NDArray[np.uint8]:
    """Apply the blur, tone curve and noise of optics and sensor, and cut the margin off."""
    sharp = cv2.GaussianBlur(light, (0, 0), center.blur)
    inner = sharp[_MARGIN_PX:-_MARGIN_PX, _MARGIN_PX:-_MARGIN_PX]
    if center.gamma != 1:
        white = np.array(center.white, np.float32)
        inner = white * (inner * np.float32(1 / LIGHT)) ** np.float32(center.gamma)
    height, width = inner.shape[:2]
    column = np.arange(view.left + _MARGIN_PX, view.left + _MARGIN_PX + width)[None, :]
    row = np.arange(view.top + _MARGIN_PX, view.top + _MARGIN_PX + height)[:, None]
    noise = uniform(seed, 99, column, row) - np.float32(0.5)
    return np.asarray((inner + center.noise * noise[..., None]).clip(0, 255).round(), np.uint8)
