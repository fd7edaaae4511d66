"""The pipeline that serves, run on files for a while."""

import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from her2d.bundle.integrator import Integrator
from her2d.inference.engine import Engine
from her2d.pipeline.outcome import SlideOutcome, TileClass
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits, PipelineRules
from tools.benchmark.report import DeviceKind
from tools.benchmark.utilisation import watched


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """What one run did.

    Attributes:
        seconds: from the first slide's submission to the last one's score.
        tissue, tumor: tiles that were segmented, and those of them that were classified.
        stages: share of `seconds` that each stage was at work, or waiting for the next.
        utilisation: share of `seconds` that the device was busy; None if unknown.
    """

    seconds: float
    tissue: int
    tumor: int
    stages: dict[str, float]
    utilisation: float | None


def run_pipeline(
    engine: Engine,
    integrator: Integrator,
    rules: PipelineRules,
    limits: Limits,
    slide: Path,
    copies: int,
    device: DeviceKind,
) -> PipelineRun:
    """Score `slide` `copies` times over, as if so many had come in.

    Raises:
        SlideError: it cannot be read.
        EngineError: the engine failed.
    """
    tissue = tumor = 0
    with Pipeline(engine, integrator, rules, limits) as pipeline:
        with watched(device) as used:
            started = time.perf_counter()
            # Outcomes hold pictures: no more are kept than the daemon would have in flight.
            waiting: deque[Future[SlideOutcome]] = deque()
            for copy in range(copies + limits.slides_in_flight):
                if copy < copies:
                    waiting.append(pipeline.submit(slide))
                if copy >= limits.slides_in_flight and waiting:
                    outcome = waiting.popleft().result()
                    tumor_here = outcome.count(TileClass.WEAK, TileClass.STRONG)
                    tumor += tumor_here
                    tissue += tumor_here + outcome.count(TileClass.NON_TUMOR)
            seconds = time.perf_counter() - started
        stages = (pipeline.uploading, pipeline.segmenting, pipeline.classifying)
        busy = {stage.name: stage.busy_s / seconds for stage in stages}
    return PipelineRun(seconds, tissue, tumor, busy, used.share)
