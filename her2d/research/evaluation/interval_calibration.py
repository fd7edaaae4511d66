"""Calibrate a candidate's interval of P on the slides that were kept apart from training."""

from collections.abc import Sequence
from dataclasses import dataclass

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import Interval
from her2d.pipeline.conformal import EVIDENCE, evidence_of_doubt
from her2d.research.evaluation.conformal import CalibrationSlide, fewest_patients, fit_interval
from her2d.research.evaluation.held_out import HeldOutSlide
from her2d.research.training.bundle_writer import write_manifest


@dataclass(frozen=True, slots=True)
class IntervalCalibration:
    """A candidate with its calibration, if there could be one.

    Attributes:
        bundle: the candidate.
        note: a sentence that says on what the interval is calibrated, or why it is not.
    """

    bundle: Bundle
    note: str


def calibrate_interval(
    bundle: Bundle,
    slides: Sequence[HeldOutSlide],
    *,
    evidence: Sequence[str] = EVIDENCE,
    seed: int,
) -> IntervalCalibration:
    """Calibrate the candidate's interval of P, and write it to the candidate's manifest.

    P of each slide is compared with its annotated share by area.

    Args:
        bundle: The study's candidate, not calibrated.
        slides: Slides that no model learned from.
        evidence: What may widen the interval, of `EVIDENCE`.
        seed: Seed of the groups of patients.

    Raises:
        OSError: The manifest cannot be written.
    """
    patients = len({slide.patient for slide in slides})
    if patients < fewest_patients():
        return IntervalCalibration(
            bundle,
            "The interval of P is not calibrated: that needs slides that were kept apart, with a"
            f" known share and a call, of {fewest_patients()} patients, and there are {patients}.",
        )
    decision = bundle.manifest.decision
    interval = fit_interval(
        calibration_slides(slides, decision.tile_cut),
        decision.threshold,
        evidence=evidence,
        seed=seed,
    )
    calls = (
        f", {interval.call.count('positive')} called positive and {interval.call.count('negative')}"
        " negative, each call by itself"
        if interval.call
        else ", both calls together, because too few patients have one of them"
    )
    return IntervalCalibration(
        _with_interval(bundle, interval),
        f"The interval of P is calibrated on {interval.slides} slides of {interval.patients}"
        f" patients that were kept apart{calls}.",
    )


def calibration_slides(slides: Sequence[HeldOutSlide], tile_cut: float) -> list[CalibrationSlide]:
    """Return what the interval's calibration needs of each slide."""
    return [
        CalibrationSlide(
            slide.patient,
            slide.tiles.share,
            slide.annotated,
            evidence_of_doubt(slide.tiles, tile_cut),
        )
        for slide in slides
    ]


def _with_interval(bundle: Bundle, interval: Interval) -> Bundle:
    write_manifest(bundle.directory, bundle.manifest.model_copy(update={"interval": interval}))
    return load_bundle(bundle.directory)
