"""Calibrate a candidate's interval of P on the slides that were kept apart from training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import Call, Interval
from her2d.pipeline.conformal import EVIDENCE, evidence_of_doubt
from her2d.research.evaluation.conformal import (
    CalibrationSlide,
    TooFewSlidesError,
    fit_interval,
)
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
    prevalence: float | None = None,
    seed: int,
) -> IntervalCalibration:
    """Calibrate the candidate's interval of P, and write it to the candidate's manifest.

    P of each slide is compared with its annotated share by area.

    Args:
        bundle: The study's candidate, not calibrated.
        slides: Slides that no model learned from.
        evidence: What may widen the interval, of `EVIDENCE`.
        prevalence: Share of HER2-positive slides that the coverage is for; None takes that of the
            slides.
        seed: Seed of the groups of patients.

    Raises:
        OSError: The manifest cannot be written.
    """
    decision = bundle.manifest.decision
    try:
        interval = fit_interval(
            calibration_slides(slides, decision.tile_cut),
            decision.threshold,
            evidence=evidence,
            prevalence=prevalence,
            seed=seed,
        )
    except TooFewSlidesError as error:
        return IntervalCalibration(bundle, f"The interval of P is not calibrated: {error}.")
    return IntervalCalibration(
        _with_interval(bundle, interval),
        f"The interval of P is calibrated on {interval.slides} slides of {interval.patients}"
        f" patients that were kept apart, {_by_call(interval)}{_weighted(interval)}.",
    )


def calibration_slides(slides: Sequence[HeldOutSlide], tile_cut: float) -> list[CalibrationSlide]:
    """Return what the interval's calibration needs of each slide."""
    return [
        CalibrationSlide(
            slide.patient,
            slide.tiles.share,
            slide.annotated,
            slide.is_positive,
            evidence_of_doubt(slide.tiles, tile_cut),
        )
        for slide in slides
    ]


def _by_call(interval: Interval) -> str:
    """Say how many slides of either call there are, and of which there are too few."""
    found = []
    for call in get_args(Call):
        alike = [each == call for each in interval.call]
        if not any(alike):
            found.append(f"none called {call} (all slides count for it)")
        elif interval.has_quantile(alike):
            found.append(f"{sum(alike)} called {call}")
        else:
            few = "too few: the largest of their errors counts"
            found.append(f"{sum(alike)} called {call} ({few})")
    return f"{' and '.join(found)}, each call by itself"


def _weighted(interval: Interval) -> str:
    if interval.prevalence is None:
        return ""
    positive = sum(interval.positive)
    return (
        f"; {positive} of them are HER2-positive, and they are weighted to a population of which"
        f" {100 * interval.prevalence:.3g} % are"
    )


def _with_interval(bundle: Bundle, interval: Interval) -> Bundle:
    write_manifest(bundle.directory, bundle.manifest.model_copy(update={"interval": interval}))
    return load_bundle(bundle.directory)
