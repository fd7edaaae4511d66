"""The producer/consumer queue from a slide's tiles to its score."""

from her2d.pipeline.outcome import Overview, SlideOutcome, TileFate
from her2d.pipeline.pipeline import Limits, Pipeline, Rules
from her2d.pipeline.quality import QualityLimits, SlideQuality, StainReference
from her2d.pipeline.slide_run import Progress, SlideCancelledError
from her2d.pipeline.stages import BatchReport, Observe

__all__ = [
    "BatchReport",
    "Limits",
    "Observe",
    "Overview",
    "Pipeline",
    "Progress",
    "QualityLimits",
    "Rules",
    "SlideCancelledError",
    "SlideOutcome",
    "SlideQuality",
    "StainReference",
    "TileFate",
]
