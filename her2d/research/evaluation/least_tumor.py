"""Measure from how much tumour on a slide can be called, on slides that no model learned from.

Two questions set the limit. A slide with little tumour is to be called as a small part of a slide
with much would be: of each slide, neighbouring tumour tiles are therefore called as if there were
no others, and these calls are compared with the call of all its tiles. And a slide without tumour
is not to be called at all, although the segmenter finds a little on it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from her2d.bundle.loading import Bundle, load_bundle
from her2d.bundle.manifest import Decision
from her2d.pipeline.interval import TumorTiles
from her2d.research.evaluation.held_out import FalseTumor, HeldOutSlide
from her2d.research.training.bundle_writer import write_manifest

TILES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48)
AREAS_MM2 = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0)
# Sensitivity and specificity may fall by five points.
_LOST = 0.05
# Five of a hundred patients without tumour may be called.
_CALLED = 0.05
_FEWEST_PATIENTS = 5
_STARTS = 50
_ROUNDING = 1e-9

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


def beyond_false_tumor(found: Sequence[FalseTumor]) -> float | None:
    """Return the least area of tumour that is more than what is found where there is none.

    It is the smallest area that slides of at most 5 % of the patients reach, in mm2; None if the
    slides are of fewer than five patients, or no area is large enough. What is found by mistake is
    spread thinly over many tiles, so that their number would not tell it from a small tumour.

    Args:
        found: the tumour that was found on slides without tumour.
    """
    patients = {slide.patient for slide in found}
    if len(patients) < _FEWEST_PATIENTS:
        return None
    for mm2 in AREAS_MM2:
        reached = {slide.patient for slide in found if slide.mm2 >= mm2}
        if len(reached) <= _CALLED * len(patients):
            return mm2
    return None


def _least(
    slides: Sequence[HeldOutSlide],
    amounts: Sequence[float],
    measure: Measure,
    threshold: float,
    seed: int,
) -> float | None:
    rng = np.random.default_rng(seed)
    lost: dict[bool, dict[str, list[NDArray[np.float64]]]] = {True: {}, False: {}}
    for slide in slides:
        positive = slide.annotated >= threshold
        of_parts = _share_right(slide.tiles, measure(slide), amounts, threshold, positive, rng)
        of_all = float((slide.tiles.share >= threshold) == positive)
        lost[positive].setdefault(slide.patient, []).append(of_all - of_parts)
    by_status = [
        _mean_of_patients(list(by_patient.values()), len(amounts)) for by_patient in lost.values()
    ]
    least: float | None = None
    for number, amount in enumerate(amounts):
        falls = [of_status[number] for of_status in by_status]
        if np.isnan(falls).any():
            break
        if max(falls) > _LOST:
            least = None
        elif least is None:
            least = amount
    return least


def _mean_of_patients(lost: list[list[NDArray[np.float64]]], amounts: int) -> NDArray[np.float64]:
    """Average over patients, who weigh the same; NaN for amounts that too few patients have."""
    by_patient = np.full((len(lost), amounts), np.nan)
    for of_patient, of_slides in zip(by_patient, lost, strict=True):
        known = ~np.isnan(of_slides).all(axis=0)
        of_patient[known] = np.nanmean(np.array(of_slides)[:, known], axis=0)
    enough = (~np.isnan(by_patient)).sum(axis=0) >= _FEWEST_PATIENTS
    means = np.full(amounts, np.nan)
    means[enough] = np.nanmean(by_patient[:, enough], axis=0)
    return means


def _share_right(
    tiles: TumorTiles,
    size: NDArray[np.float64],
    amounts: Sequence[float],
    threshold: float,
    positive: bool,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Call parts of a slide that just reach each amount.

    Returns:
        Share of right calls by amount; NaN where the slide has less than twice the amount.
    """
    starts = rng.permutation(len(tiles))[:_STARTS]
    apart = np.hypot(tiles.row - tiles.row[starts, None], tiles.column - tiles.column[starts, None])
    near = np.argsort(apart, axis=1, kind="stable")
    strong = np.where(tiles.strong, tiles.tumor_pixels, 0)
    share = strong[near].cumsum(axis=1) / tiles.tumor_pixels[near].cumsum(axis=1)
    right = (share >= threshold) == positive
    reached = size[near].cumsum(axis=1)
    found = np.full(len(amounts), np.nan)
    for number, amount in enumerate(amounts):
        if size.sum() >= 2 * amount:
            last = (reached < amount - _ROUNDING).sum(axis=1)
            found[number] = right[np.arange(len(starts)), last].mean()
    return found


@dataclass(frozen=True, slots=True)
class LimitedBundle:
    """A candidate with its least tumour, if that could be measured.

    Attributes:
        bundle: the candidate.
        note: a sentence that says what the least tumour is and where it comes from.
    """

    bundle: Bundle
    note: str


def limit_tumor(
    bundle: Bundle,
    slides: Sequence[HeldOutSlide],
    without_tumor: Sequence[FalseTumor],
    *,
    seed: int,
) -> LimitedBundle:
    """Measure the least tumour of a call, and write it to the candidate's manifest.

    The number of tiles is what right calls need. The area is that too, or more than what is found
    on slides without tumour if that is larger. What the slides cannot say stays as in the manifest.

    Args:
        bundle: the study's candidate.
        slides: slides with tumour that no model learned from.
        without_tumor: what was found on such slides without tumour.
        seed: of the places where parts of slides begin.

    Raises:
        OSError: the manifest cannot be written.
    """
    decision = bundle.manifest.decision
    right = least_tumor(slides, threshold=decision.threshold, seed=seed)
    beyond = beyond_false_tumor(without_tumor)
    mm2 = max((area for area in (right.mm2, beyond) if area is not None), default=None)
    measured = {"min_tumor_tiles": right.tiles, "min_tumor_mm2": mm2}
    known = {name: value for name, value in measured.items() if value is not None}
    limited = decision.model_copy(update=known)
    write_manifest(bundle.directory, bundle.manifest.model_copy(update={"decision": limited}))
    note = " ".join(_sentences(limited, right, beyond, slides, without_tumor))
    return LimitedBundle(load_bundle(bundle.directory), note)


def _sentences(
    decision: Decision,
    right: LeastTumor,
    beyond: float | None,
    slides: Sequence[HeldOutSlide],
    without_tumor: Sequence[FalseTumor],
) -> Iterator[str]:
    tiles = decision.min_tumor_tiles
    yield (
        f"A call needs {tiles} tumour tile{'s' if tiles > 1 else ''} and"
        f" {decision.min_tumor_mm2:g} mm2 of tumour."
    )
    if right.tiles is None or right.mm2 is None:
        yield (
            "How much right calls need could not be measured: that needs slides that were kept"
            f" apart, with twice as much, of {_FEWEST_PATIENTS} positive and {_FEWEST_PATIENTS}"
            " negative patients."
        )
    else:
        yield (
            f"On slides that were kept apart, calls are as right from {right.tiles} tiles and"
            f" {right.mm2:g} mm2 on as with all tumour."
        )
    if beyond is None:
        yield "How much is found where there is no tumour could not be measured."
    else:
        yield (
            f"On {len(without_tumor)} slides without tumour up to"
            f" {max(slide.mm2 for slide in without_tumor):.1f} mm2 are found."
        )
    too_little = sum(
        len(slide.tiles) < tiles or slide.tile_mm2.sum() < decision.min_tumor_mm2
        for slide in slides
    )
    yield f"{too_little} of {len(slides)} slides with tumour have less than a call needs."
