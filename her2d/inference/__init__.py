"""Tiles -> numbers: the Engine protocol, its back ends and the integrator."""

from her2d.inference.backends import Candidate, candidates
from her2d.inference.choose import open_engine
from her2d.inference.engine import (
    DeviceLostError,
    Engine,
    EngineError,
    KeptTile,
    Segmentation,
    TileBatch,
    Tiles,
)
from her2d.inference.integrator import Integrated, Integrator
from her2d.inference.options import EngineOptions
from her2d.inference.proof import prove

__all__ = [
    "Candidate",
    "DeviceLostError",
    "Engine",
    "EngineError",
    "EngineOptions",
    "Integrated",
    "Integrator",
    "KeptTile",
    "Segmentation",
    "TileBatch",
    "Tiles",
    "candidates",
    "open_engine",
    "prove",
]
