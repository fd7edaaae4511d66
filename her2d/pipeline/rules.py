"""What the pipeline decides by, and how much it may hold at once."""

from dataclasses import dataclass, field

from her2d.bundle.loading import Bundle
from her2d.method import SATURATION, THRESHOLD, TUMOR_FRACTION
from her2d.pipeline.quality import QualityLimits, StainReference


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tiles may be in the pipeline at once, which bounds its memory."""

    decode_workers: int = 2
    slides_in_flight: int = 2
    queue_tiles: int = 32
    segmenter_batch: int = 4
    classifier_batch: int = 4
    batch_wait_s: float = 0.2


@dataclass(frozen=True, slots=True)
class PipelineRules:
    """The limits that decide, from the bundle's manifest (paper, sections 4.2 and 4.6)."""

    saturation: float = SATURATION
    tumor_fraction: float = TUMOR_FRACTION
    threshold: float = THRESHOLD
    bootstrap_seed: int = 20250101
    quality: QualityLimits = field(default_factory=QualityLimits)


def rules_of(bundle: Bundle) -> PipelineRules:
    """Return the rules that the bundle's manifest states."""
    preprocessing = bundle.manifest.preprocessing
    return PipelineRules(
        saturation=preprocessing.saturation,
        tumor_fraction=preprocessing.tumor_fraction,
        threshold=bundle.manifest.decision.threshold,
        quality=_quality_limits(bundle),
    )


def _quality_limits(bundle: Bundle) -> QualityLimits:
    stain = bundle.manifest.stain
    if stain is None:
        return QualityLimits()
    spread = stain.saturation
    saturation = (spread.mean, spread.std) if spread is not None else None
    return QualityLimits(stain=StainReference(stain.mean, stain.std, saturation))
