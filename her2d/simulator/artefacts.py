"""Artefacts of slides: tissue folds, pen marks, blur and dust."""

import cv2
import numpy as np

from her2d.simulator.noise import Floats
from her2d.simulator.plan import SlidePlan

_PENS = ((40, 60, 160), (30, 120, 60), (30, 30, 40))


def spoiled(light: Floats, plan: SlidePlan, x: Floats, y: Floats) -> Floats:
    """Apply the artefacts of a plan to light (H, W, 3) at columns `x` and rows `y`."""
    artefacts = plan.artefacts
    for number in range(artefacts.folds):
        light = _folded(light, plan, number, x, y)
    for number in range(artefacts.blur_patches):
        light = _defocused(light, plan, number, x, y)
    for number in range(artefacts.pen_marks):
        light = _marked(light, plan, number, x, y)
    for number in range(artefacts.dust):
        light = _dusted(light, plan, number, x, y)
    return light


def _folded(light: Floats, plan: SlidePlan, number: int, x: Floats, y: Floats) -> Floats:
    """Add a tissue fold, which has twice the dye, along a wavy line."""
    rng = np.random.default_rng([plan.seed, 4, number])
    distance = _from_line(plan, rng, x, y)
    inside = np.clip(1 - np.abs(distance) / rng.uniform(6, 14), 0, 1)[..., None]
    doubled = light * light / 244
    return np.asarray(light + (doubled - light) * inside, np.float32)


def _marked(light: Floats, plan: SlidePlan, number: int, x: Floats, y: Floats) -> Floats:
    """Add a stroke of a felt pen on the cover slip."""
    rng = np.random.default_rng([plan.seed, 5, number])
    distance = _from_line(plan, rng, x, y)
    ink = np.array(_PENS[rng.integers(len(_PENS))], np.float32) / 244
    inside = (np.abs(distance) < rng.uniform(18, 34))[..., None]
    return np.asarray(np.where(inside, light * ink, light), np.float32)


def _defocused(light: Floats, plan: SlidePlan, number: int, x: Floats, y: Floats) -> Floats:
    """Blur a patch, with a gradual transition at its edge."""
    rng = np.random.default_rng([plan.seed, 6, number])
    center_x, center_y = rng.uniform(0, plan.width), rng.uniform(0, plan.height)
    radius = rng.uniform(150, 400)
    distance = np.hypot(x[None, :] - center_x, y[:, None] - center_y)
    inside = np.clip((radius - distance) / 60, 0, 1)[..., None]
    if not inside.any():
        return light
    # A stronger blur would reach beyond the rendering margin and show seams between regions.
    blurred = cv2.GaussianBlur(light, (0, 0), 3.0)
    return np.asarray(light + (blurred - light) * inside, np.float32)


def _dusted(light: Floats, plan: SlidePlan, number: int, x: Floats, y: Floats) -> Floats:
    """Add a dark speck of dust."""
    rng = np.random.default_rng([plan.seed, 7, number])
    center_x, center_y = rng.uniform(0, plan.width), rng.uniform(0, plan.height)
    distance = np.hypot(x[None, :] - center_x, (y[:, None] - center_y) * rng.uniform(1, 2))
    shade = np.clip((distance - rng.uniform(1.5, 5)) / 2 + 0.25, 0.25, 1)[..., None]
    return np.asarray(light * shade, np.float32)


def _from_line(plan: SlidePlan, rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Compute the signed distance, in 4x pixels (H, W), from a wavy line across the slide."""
    angle = rng.uniform(0, np.pi)
    center_x = plan.width * rng.uniform(0.3, 0.7)
    center_y = plan.height * rng.uniform(0.3, 0.7)
    dx, dy = x[None, :] - center_x, y[:, None] - center_y
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = dy * np.cos(angle) - dx * np.sin(angle)
    wave = rng.uniform(20, 70) * np.sin(along / rng.uniform(150, 400))
    return np.asarray(across + wave, np.float32)
