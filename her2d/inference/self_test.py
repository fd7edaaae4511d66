"""A check that an engine works at all, made before any slide is scored."""

import numpy as np

from her2d.inference.engine import Engine
from her2d.method import TILE_PX


def self_test(engine: Engine) -> None:
    """Run one blank tile through both networks.

    Raises:
        EngineError: the engine failed.
    """
    tile = np.full((1, TILE_PX, TILE_PX, 3), 255, np.uint8)
    engine.segment(tile)
    engine.classify(tile)
