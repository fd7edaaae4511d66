"""Run the daemon's pipeline on a slide repeatedly."""

import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from her2d.bundle.integrator import Integrator
from her2d.inference.engine import Engine
from her2d.pipeline.bottleneck import Bottleneck, find_bottleneck
from her2d.pipeline.her2net import Her2Net
from her2d.pipeline.outcome import SlideOutcome, TileClass, is_tumor
from her2d.pipeline.pipeline import Pipeline
from her2d.pipeline.rules import Limits, PipelineRules
from tools.benchmark.report import DeviceKind
from tools.benchmark.utilisation import watched


@dataclass(frozen=True, slots=True)
class PipelineRun:
    """The result of one run.

    Attributes:
        seconds: time from the first slide's submission to the last one's score.
        cpu_s: processor time of all this process's threads in it.
        tissue, tumor: number of tiles that were segmented, and of those that were classified.
        bottleneck: what limited it, and the share of the time in which each part worked.
        utilisation: share of `seconds` in which the device was busy; None if unknown.
    """

    seconds: float
    cpu_s: float
    tissue: int
    tumor: int
    bottleneck: Bottleneck
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
    """Score `slide` `copies` times, as if so many slides had arrived.

    Args:
        engine, integrator, rules, limits: as for the daemon's pipeline.
        slide: path of a scan.
        copies: how often it is scored, at least 1.
        device: whose utilisation is measured.

    Raises:
        SlideError: the slide cannot be read.
        EngineError: the engine failed.
    """
    tissue = tumor = 0
    with Pipeline(Her2Net(engine, integrator), rules, limits) as pipeline, watched(device) as used:
        started, worked, before = time.perf_counter(), time.process_time(), pipeline.times()
        # Outcomes contain images, so no more are kept than the daemon has in flight.
        waiting: deque[Future[SlideOutcome]] = deque()
        for copy in range(copies + limits.slides_in_flight):
            if copy < copies:
                waiting.append(pipeline.submit(slide))
            if copy >= limits.slides_in_flight and waiting:
                outcome = waiting.popleft().result()
                tumor_here = int(is_tumor(outcome.tile_class).sum())
                tumor += tumor_here
                tissue += tumor_here + outcome.count(TileClass.NON_TUMOR)
        seconds, cpu_s = time.perf_counter() - started, time.process_time() - worked
        bottleneck = find_bottleneck(before, pipeline.times())
    return PipelineRun(seconds, cpu_s, tissue, tumor, bottleneck, used.share)
