"""What makes a slide's call of its tumour tiles: HER2Net, or attention over the whole slide.

The pipeline reads tiles, measures their quality and finds tumour in the same way for every method.
Which method follows is a fact about the bundle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from her2d.inference.engine import TileEngine
from her2d.pipeline.evaluability import UnreadTiles
from her2d.pipeline.rules import Limits, PipelineRules
from her2d.pipeline.scoring import Score
from her2d.pipeline.slide_quality import SlideQuality
from her2d.pipeline.slide_run import SlideRun
from her2d.pipeline.stages import TumorTile
from her2d.slides.scale import ScaleDoubt

TumorWork = Callable[[list[TumorTile]], None]
"""What the last stage does with tumour tiles: it settles each of them, or ends its slide."""


@dataclass(frozen=True, slots=True)
class SlideFindings:
    """What the pipeline found on a slide before its tumour tiles are judged."""

    quality: SlideQuality
    unread: UnreadTiles
    scale: ScaleDoubt | None


@dataclass(frozen=True, slots=True)
class SlideCall:
    """What a method calls a slide.

    Attributes:
        score: the status, and the number behind it.
        unread_could_change_call: whether what the unreadable tiles hold could change it.
        attention: float32 (rows, columns), the weight of each tumour tile in the call, with a sum
            of 1, NaN outside tumour tiles; None if the method weighs no tiles, or made no call.
        tiles_decided_early: see `SlideOutcome`.
    """

    score: Score
    unread_could_change_call: bool
    attention: NDArray[np.float32] | None = None
    tiles_decided_early: int | None = None


class Method(Protocol):
    """Judges tumour tiles one by one, and then their slide."""

    @property
    def engine(self) -> TileEngine:
        """The engine of the bundle that the method belongs to."""
        ...

    def tumor_work(self, full_batch: int) -> TumorWork:
        """Return the last stage's work; `full_batch` is how many tiles the engine takes at once."""
        ...

    def most_at_once(self, limits: Limits) -> int:
        """Return how many tumour tiles the stage takes at once if that many wait."""
        ...

    def integrate(self, run: SlideRun) -> None:
        """Finish the classes of a slide's tumour tiles, once every tile is settled."""
        ...

    def call(self, run: SlideRun, findings: SlideFindings, rules: PipelineRules) -> SlideCall:
        """Return what a slide with finished tile classes is. Raises EngineError."""
        ...
