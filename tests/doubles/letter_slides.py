"""Slides of letters in flight together through a small pipeline: for every engine the same."""

from collections.abc import Sequence
from pathlib import Path

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle
from her2d.inference.engine import Engine
from her2d.pipeline.outcome import SlideOutcome
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits

LIMITS = Limits(
    slides_in_flight=3, queue_tiles=4, segmenter_batch=3, classifier_batch=2, batch_wait_s=0.01
)
PICTURES = [["sSw", "twh"], ["SSSS"], ["....", "s.wh"], ["wwwwwwww", "SSSSSSSS"]]
"""As `write_slide` takes them."""


def outcomes(engine: Engine, bundle: Bundle, paths: Sequence[Path]) -> list[SlideOutcome]:
    with Pipeline(engine, Integrator(bundle), limits=LIMITS) as pipeline:
        return [future.result() for future in [pipeline.submit(path) for path in paths]]
