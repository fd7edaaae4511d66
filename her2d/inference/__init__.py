"""Tiles -> numbers: the Engine protocol, its back ends and the integrator."""

from her2d.inference.choose import open_engine
from her2d.inference.engine import Engine, EngineError, Segmentation, Tiles
from her2d.inference.integrator import Integrated, Integrator

__all__ = [
    "Engine",
    "EngineError",
    "Integrated",
    "Integrator",
    "Segmentation",
    "Tiles",
    "open_engine",
]
