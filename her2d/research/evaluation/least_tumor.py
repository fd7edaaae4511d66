"""Measure from how much tumour on a slide can be called, on slides that no model learned from.

A slide with little tumour is to be called as a small part of a slide with much would be. Of each
slide, neighbouring tumour tiles are therefore called as if there were no others, and these calls
are compared with the call of all its tiles.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import Decision
from her2d.pipeline.interval import TumorTiles
from her2d.research.evaluation.held_out import HeldOutSlide
from her2d.research.training.bundle_writer import write_manifest

TILES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48)
AREAS_MM2 = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
# Sensitivity and specificity may fall by five points.
_LOST = 0.05
_FEWEST_PATIENTS = 5
_STARTS = 50

Measure = Callable[[HeldOutSlide], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class LeastTumor:
    """From how much tumour on slides are called; None where the slides could not say.

    Attributes:
        tiles: number of tumour tiles.
        mm2: area of tumour.
    """

    tiles: int | None
    mm2: float | None


def least_tumor(slides: Sequence[HeldOutSlide], *, threshold: float, seed: int) -> LeastTumor:
    """Find the least tumour from which on calls are as right as those of a slide's whole tumour.

    They are if neither sensitivity nor specificity is more than five points lower, with that much
    tumour and with every larger amount that could be tried. An amount is tried on slides with at
    least twice as much, if those are of five positive and five negative patients.

    Args:
        slides: the slides.
        threshold: P from which a slide is positive.
        seed: of the places where parts of slides begin.
    """
    tiles = _least(slides, TILES, lambda slide: np.ones(len(slide.tiles)), threshold, seed)
    mm2 = _least(slides, AREAS_MM2, lambda slide: slide.tile_mm2, threshold, seed)
    return LeastTumor(None if tiles is None else int(tiles), mm2)


def _least(
    slides: Sequence[HeldOutSlide],
    amounts: Sequence[float],
    measure: Measure,
    threshold: float,
    seed: int,
) -> float | None:
    found: float | None = None
    for amount in amounts:
        lost = _lost(slides, amount, measure, threshold, seed)
        if lost is None:
            break
        if lost > _LOST:
            found = None
        elif found is None:
            found = amount
    return found


def _lost(
    slides: Sequence[HeldOutSlide], amount: float, measure: Measure, threshold: float, seed: int
) -> float | None:
    """Return the larger fall of sensitivity and specificity; None if there are too few slides."""
    rng = np.random.default_rng(seed)
    lost: dict[bool, dict[str, list[float]]] = {True: {}, False: {}}
    for slide in slides:
        size = measure(slide)
        if size.sum() >= 2 * amount:
            positive = slide.annotated >= threshold
            right = _share_right(slide.tiles, size, amount, threshold, positive, rng)
            of_all = float((slide.tiles.share >= threshold) == positive)
            lost[positive].setdefault(slide.patient, []).append(of_all - right)
    if min(map(len, lost.values())) < _FEWEST_PATIENTS:
        return None
    # All patients weigh the same.
    return max(
        float(np.mean([np.mean(values) for values in by_patient.values()]))
        for by_patient in lost.values()
    )


def _share_right(
    tiles: TumorTiles,
    size: NDArray[np.float64],
    amount: float,
    threshold: float,
    positive: bool,
    rng: np.random.Generator,
) -> float:
    """Call parts of a slide that just reach an amount; return the share of right calls."""
    starts = rng.permutation(len(tiles))[:_STARTS]
    right = 0
    for start in starts:
        apart = np.hypot(tiles.row - tiles.row[start], tiles.column - tiles.column[start])
        near = np.argsort(apart, kind="stable")
        near = near[: 1 + int(np.searchsorted(np.cumsum(size[near]), amount - 1e-9))]
        pixels = tiles.tumor_pixels[near]
        share = pixels[tiles.strong[near]].sum() / pixels.sum()
        right += (share >= threshold) == positive
    return right / len(starts)


@dataclass(frozen=True, slots=True)
class LimitedBundle:
    """A candidate with its least tumour, if that could be measured.

    Attributes:
        bundle: the candidate.
        note: a sentence that says what the least tumour is and where it comes from.
    """

    bundle: Bundle
    note: str


def limit_tumor(bundle: Bundle, slides: Sequence[HeldOutSlide], *, seed: int) -> LimitedBundle:
    """Measure the least tumour of a call, and write it to the candidate's manifest.

    What the slides cannot say is left as the manifest has it.

    Args:
        bundle: the study's candidate.
        slides: slides that no model learned from.
        seed: of the places where parts of slides begin.

    Raises:
        OSError: the manifest cannot be written.
    """
    decision = bundle.manifest.decision
    least = least_tumor(slides, threshold=decision.threshold, seed=seed)
    measured = {"min_tumor_tiles": least.tiles, "min_tumor_mm2": least.mm2}
    known = {name: value for name, value in measured.items() if value is not None}
    limited = decision.model_copy(update=known)
    write_manifest(bundle.directory, bundle.manifest.model_copy(update={"decision": limited}))
    return LimitedBundle(load_bundle(bundle.directory), _note(limited, known))


def _note(decision: Decision, measured: Mapping[str, object]) -> str:
    limits = (
        ("min_tumor_tiles", f"{decision.min_tumor_tiles} tumour tiles"),
        ("min_tumor_mm2", f"{decision.min_tumor_mm2:g} mm2 of tumour"),
    )
    said = [
        f"{limit} ({'measured' if name in measured else 'not measured: too few slides say more'})"
        for name, limit in limits
    ]
    return f"A slide is called from {' and '.join(said)} on."
