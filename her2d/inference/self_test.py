"""Does an engine work at all? Asked before any slide is."""

import numpy as np

from her2d.inference.engine import Engine


def self_test(engine: Engine) -> None:
    """Run one blank tile through both graphs. Raises EngineError."""
    tile = np.full((1, 512, 512, 3), 255, np.uint8)
    engine.segment(tile)
    engine.classify(tile)
