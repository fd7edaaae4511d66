"""What the pipeline decides by, and how much it may hold at once."""

from dataclasses import dataclass, field

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import Interval
from her2d.bundle.site_calibration import IhcZone
from her2d.method import SATURATION, THRESHOLD, TILE_CUT, TUMOR_FRACTION
from her2d.pipeline.evaluability import EvaluableLimits
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
    """The limits that decide, from the bundle's manifest (paper, sections 4.2 and 4.6).

    Attributes:
        saturation: mean HSV saturation up to which a tile is background.
        tumor_fraction: share of tumour pixels up to which a tile is a non-tumour tile.
        threshold: P from which a slide is positive.
        tile_cut: the integrator's probability above which a tile is strong.
        ihc_zone: which slides the laboratory's calibration sends to IHC; None without one.
        interval: calibration of P's interval; without it the interval is a bootstrap's.
        bootstrap_seed: of that.
        quality: from when on quality is suspicious.
        evaluable: from when on a slide is not called.
    """

    saturation: float = SATURATION
    tumor_fraction: float = TUMOR_FRACTION
    threshold: float = THRESHOLD
    tile_cut: float = TILE_CUT
    ihc_zone: IhcZone | None = None
    interval: Interval | None = None
    bootstrap_seed: int = 20250101
    quality: QualityLimits = field(default_factory=QualityLimits)
    evaluable: EvaluableLimits = field(default_factory=EvaluableLimits)


def rules_of(bundle: Bundle) -> PipelineRules:
    """Return the rules that the bundle's manifest and its calibration state."""
    preprocessing = bundle.manifest.preprocessing
    return PipelineRules(
        saturation=preprocessing.saturation,
        tumor_fraction=preprocessing.tumor_fraction,
        threshold=bundle.manifest.decision.threshold,
        tile_cut=bundle.manifest.decision.tile_cut,
        ihc_zone=None if bundle.calibration is None else bundle.calibration.content.zone,
        interval=bundle.manifest.interval,
        quality=_quality_limits(bundle),
    )


def _quality_limits(bundle: Bundle) -> QualityLimits:
    stain = bundle.manifest.stain
    if stain is None:
        return QualityLimits()
    spread = stain.saturation
    saturation = (spread.mean, spread.std) if spread is not None else None
    reference = StainReference(stain.mean, stain.std, saturation)
    return QualityLimits(stain=reference, he=stain.he)
