"""Plans of simulated slides: size, diagnosis and artefacts, all drawn from one seed.

`plan_cohort` plans slides on which HER2-high tumour always grows in tubules and other tumour never
does, which a small network learns in minutes. `her2d.simulator.paper_cohort` plans a cohort that is
about as hard as the paper's.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from her2d.method import MAGNIFICATION, TILE_PX, UM_PER_PX
from her2d.simulator.centers import REFERENCE, Center

Status = Literal["positive", "negative", "indeterminate"]
Differentiation = Literal["", "poor", "moderate_or_well"]
"""Of tumour; empty for tissue without tumour."""
IhcScore = Literal["", "0", "1+", "2+", "3+"]
Fish = Literal["", "positive", "negative"]

# Table 1 of the paper, internal cohort: 646 slides of 632 patients, 81 positive; 137 of the 646
# moderately or well differentiated.
POSITIVE_FRACTION = 81 / 646
POOR_FRACTION = 509 / 646
SECOND_SLIDE_FRACTION = 14 / 632


@dataclass(frozen=True, slots=True)
class Artefacts:
    """Numbers of artefacts on a slide.

    The paper excluded slides with artefacts by hand (section 4.1).
    """

    folds: int = 0
    pen_marks: int = 0
    blur_patches: int = 0
    dust: int = 0


@dataclass(frozen=True, slots=True)
class Histology:
    """How tumour grows on a slide, independent of HER2; each share is of the tumour's area.

    Attributes:
        glandular: share of tumour that grows in tubules, papillae and cribriform glands; None for
            all HER2-high tumour and nothing else.
        papillary, adenoid: share of papillae, and of cribriform glands. They are within the
            glandular tumour, or in small foci where there is none.
        signet_ring, mucinous: share of signet-ring cells, and of mucin with floating tumour, in
            tumour without glands.
        tertiary_lymphoid: whether lymphoid follicles with germinal centres lie beside the tumour.
    """

    glandular: float | None = None
    papillary: float = 0.0
    adenoid: float = 0.0
    signet_ring: float = 0.0
    mucinous: float = 0.0
    tertiary_lymphoid: bool = False


@dataclass(frozen=True, slots=True)
class IhcSection:
    """How the IHC section differs from the H&E section.

    Attributes:
        shift_x, shift_y: where the tissue lies on the IHC slide, to the right of and below its
            place on the H&E slide, in pixels at 4x.
        strong, weak: DAB of the membranes of HER2-high and of other tumour cells; 1 is IHC 3+.
        noise: by which share the DAB of single cells and of regions varies.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    strong: float = 1.0
    weak: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class AnnotationNoise:
    """How an annotator's outlines differ from what is drawn, in units of the fields of `Anatomy`.

    Attributes:
        tumor: of the tumour's edge; 0.1 is a tenth of the tumour's radius.
        strong: of the edge of HER2-high tumour.
    """

    tumor: float
    strong: float


@dataclass(frozen=True, slots=True)
class SlidePlan:
    """All properties from which a slide is rendered.

    Attributes:
        width, height: pixels at 4x (2.5 um each).
        magnification: objective magnification of the file's finest level.
        strong_fraction: fraction of the tumour area with HER2-high morphology. With a histology, P
            of equation 1, and the tumour's growth is independent of it.
        ihc_score, fish: results of immunohistochemistry and in-situ hybridisation, which imply the
            status as in the paper (3+, or 2+ and FISH positive, is positive).
        scale: the scanner's um per pixel in parts of those that the magnification stands for.
        histology: growth of the tumour; None for tubules where HER2 is high, and poorly cohesive
            cells elsewhere.
        annotation: noise of the annotation; None if there is none beside the truth.
        split: the split of the cohort; empty to choose it when the table is written.
    """

    name: str
    patient: str
    seed: int
    width: int
    height: int
    her2_status: Status
    strong_fraction: float
    magnification: float = MAGNIFICATION
    differentiation: Differentiation = "poor"
    ihc_score: IhcScore = ""
    fish: Fish = ""
    barcode: str = ""
    artefacts: Artefacts = field(default_factory=Artefacts)
    scale: float = 1.0
    specimen: Literal["resection", "biopsy"] = "resection"
    center: Center = REFERENCE
    histology: Histology | None = None
    ihc: IhcSection = field(default_factory=IhcSection)
    annotation: AnnotationNoise | None = None
    split: Literal["", "train", "integrator", "test", "external"] = ""
    age: int | None = None
    sex: Literal["", "female", "male"] = ""

    @property
    def um_per_px(self) -> float:
        """Micrometres per pixel of the file's finest level."""
        return UM_PER_PX * MAGNIFICATION / self.magnification * self.scale


def plan_slide(
    name: str,
    seed: int,
    *,
    her2_status: Status,
    width: int = 4096,
    height: int = 3072,
    magnification: float = MAGNIFICATION,
    patient: str | None = None,
    artefacts: Artefacts | None = None,
) -> SlidePlan:
    """Draw the plan of one slide with the given HER2 status.

    `indeterminate` is a benign biopsy: tissue without tumour.

    Raises:
        ValueError: the magnification is neither 4 nor 40, or the slide is under 512 x 512.
    """
    if magnification not in (MAGNIFICATION, 40.0):
        raise ValueError(f"slides are simulated at 4x or 40x, not at {magnification:g}x")
    if min(width, height) < TILE_PX:
        raise ValueError("a simulated slide is at least 512 x 512 pixels at 4x")
    rng = np.random.default_rng([seed, 1])
    strong_fraction, ihc_score, fish = _particulars(her2_status, rng)
    grade: Differentiation = "poor" if rng.random() < POOR_FRACTION else "moderate_or_well"
    return SlidePlan(
        name=name,
        patient=patient or f"P{name}",
        seed=seed,
        width=width,
        height=height,
        her2_status=her2_status,
        strong_fraction=strong_fraction,
        magnification=magnification,
        differentiation="" if her2_status == "indeterminate" else grade,
        ihc_score=ihc_score,
        fish=fish,
        barcode=str(rng.integers(100_000, 1_000_000)),
        artefacts=artefacts or Artefacts(),
    )


def plan_cohort(
    slides: int,
    seed: int,
    *,
    positive_fraction: float = POSITIVE_FRACTION,
    benign_fraction: float = 0.0,
    width: int = 4096,
    height: int = 3072,
    magnification: float = MAGNIFICATION,
    artefact_probability: float = 0.0,
) -> list[SlidePlan]:
    """Draw the plans of a cohort after Table 1 of the paper.

    The numbers of slides of each status are exact; all else is random.

    Args:
        slides: number of slides.
        seed: the same seed gives the same cohort.
        positive_fraction: fraction of HER2-positive slides; four slides or more have at least one.
        benign_fraction: fraction of slides without tumour, which the paper's cohort does not have.
        width, height: mean size in pixels at 4x; slides vary by up to a quarter.
        magnification: objective magnification of the files, 4 or 40.
        artefact_probability: probability of each kind of artefact on a slide.
    """
    rng = np.random.default_rng([seed, 0])
    positive = round(slides * positive_fraction)
    if slides >= 4 and positive_fraction > 0:
        positive = max(positive, 1)
    benign = round(slides * benign_fraction)
    statuses: list[Status] = ["negative"] * slides
    statuses[:positive] = ["positive"] * positive
    statuses[positive : positive + benign] = ["indeterminate"] * benign
    order = rng.permutation(slides)
    plans: list[SlidePlan] = []
    for number in range(slides):
        status = statuses[order[number]]
        again = (
            number > 0
            and plans[-1].her2_status == status
            and rng.random() < 4 * SECOND_SLIDE_FRACTION
        )
        patient = plans[-1].patient if again else f"P{seed:03d}-{number:04d}"
        scale = rng.uniform(0.75, 1.25, 2)
        plans.append(
            plan_slide(
                f"S{seed:03d}-{number:04d}",
                int(rng.integers(1 << 31)),
                her2_status=status,
                width=max(1024, int(width * scale[0])),
                height=max(1024, int(height * scale[1])),
                magnification=magnification,
                patient=patient,
                artefacts=some_artefacts(artefact_probability, rng),
            )
        )
    return plans


def _particulars(status: Status, rng: np.random.Generator) -> tuple[float, IhcScore, Fish]:
    if status == "indeterminate":
        return 0.0, "", ""
    if status == "positive":
        fraction = float(rng.uniform(0.22, 0.9))
        return (fraction, "3+", "") if rng.random() < 0.7 else (fraction, "2+", "positive")
    # Some negative slides have a little strong tumour, as heterogeneous tumours do.
    fraction = float(rng.uniform(0.005, 0.03)) if rng.random() < 0.25 else 0.0
    if rng.random() < 0.25:
        return fraction, "2+", "negative"
    return (fraction, "1+", "") if rng.random() < 0.5 else (fraction, "0", "")


def some_artefacts(probability: float, rng: np.random.Generator) -> Artefacts:
    """Draw the artefacts of a slide, each kind with the given probability."""

    def some(most: int) -> int:
        return int(rng.integers(1, most + 1)) if rng.random() < probability else 0

    return Artefacts(folds=some(2), pen_marks=some(2), blur_patches=some(3), dust=some(30))
