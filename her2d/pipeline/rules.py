"""What the pipeline decides by, and how much it may hold at once."""

from dataclasses import dataclass, field

from her2d.bundle.loading import Bundle
from her2d.bundle.manifest import HeStain, Interval
from her2d.bundle.site_calibration import IhcZone
from her2d.method import SATURATION, THRESHOLD, TILE_CUT, TUMOR_FRACTION, UM_PER_PX
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
        um_per_px: micrometres per pixel of the tiles.
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

    um_per_px: float = UM_PER_PX
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
    preprocessing, decision = bundle.manifest.preprocessing, bundle.manifest.decision
    return PipelineRules(
        um_per_px=preprocessing.mpp,
        saturation=preprocessing.saturation,
        tumor_fraction=preprocessing.tumor_fraction,
        threshold=decision.threshold,
        tile_cut=decision.tile_cut,
        ihc_zone=None if bundle.calibration is None else bundle.calibration.content.zone,
        interval=bundle.manifest.interval,
        quality=_quality_limits(bundle),
        evaluable=_evaluable_limits(bundle),
    )


def _quality_limits(bundle: Bundle) -> QualityLimits:
    quality, stain = bundle.manifest.quality, bundle.manifest.stain
    return QualityLimits(
        focus=quality.focus,
        blurred_percent=quality.blurred_percent,
        tissue_fold_percent=quality.tissue_fold_percent,
        pen_percent=quality.pen_percent,
        stain=_stain_reference(bundle),
        stain_deviations=quality.stain_deviations,
        he=HeStain() if stain is None else stain.he,
    )


def _evaluable_limits(bundle: Bundle) -> EvaluableLimits:
    decision, quality = bundle.manifest.decision, bundle.manifest.quality
    return EvaluableLimits(
        min_tumor_mm2=decision.min_tumor_mm2,
        min_tumor_tiles=decision.min_tumor_tiles,
        max_blurred_percent=quality.max_blurred_percent,
        max_tissue_fold_percent=quality.max_tissue_fold_percent,
        max_pen_percent=quality.max_pen_percent,
    )


def _stain_reference(bundle: Bundle) -> StainReference | None:
    stain = bundle.manifest.stain
    if stain is None:
        return None
    spread = stain.saturation
    saturation = (spread.mean, spread.std) if spread is not None else None
    return StainReference(stain.mean, stain.std, saturation)
