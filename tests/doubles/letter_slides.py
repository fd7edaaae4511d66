"""Slides of letters, scored together by a small pipeline, for tests of every engine."""

from collections.abc import Sequence
from pathlib import Path

from her2d.bundle.integrator import Integrator
from her2d.bundle.loading import Bundle
from her2d.inference.engine import Engine
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.outcome import SlideOutcome
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits, rules_of

LIMITS = Limits(
    slides_in_flight=3, queue_tiles=4, segmenter_batch=3, classifier_batch=2, batch_wait_s=0.01
)
PICTURES = [["sSw", "twh"], ["SSSS"], ["....", "s.wh"], ["wwwwwwww", "SSSSSSSS"]]
"""Arguments for `write_slide`."""


def outcomes(engine: Engine, bundle: Bundle, paths: Sequence[Path]) -> list[SlideOutcome]:
    with Pipeline(Her2Net(engine, Integrator(bundle)), rules_of(bundle), LIMITS) as pipeline:
        return [future.result() for future in [pipeline.submit(path) for path in paths]]
