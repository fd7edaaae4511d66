"""How good a scan is, as one record.

`quality` measures it. A command that only reads results imports this module, without OpenCV.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlideQuality:
    """How good a scan is, over all its tiles; its fields are columns of `run_quality`.

    A measure is None where there is no tissue to measure.

    Attributes:
        tissue_mm2, tumor_mm2: areas.
        focus: median variance of the Laplacian over tissue, at 4x, of 8-bit grey.
        blurred_percent, tissue_fold_percent: of tissue.
        pen_percent: of the slide.
        artefact_tumor_percent: of the tumour that the segmenter found, left out of P because it is
            blurred, in a tissue fold or under a pen; None where it found none.
        stain_red, stain_green, stain_blue: mean optical density of tissue.
        saturation: mean HSV saturation of tissue, 0..255.
        stain_distance, saturation_distance: standard deviations from the bundle's reference; None
            without one.
        stained_mm2: area of stained tissue, without a pen's ink.
        ink_percent: share of blue, green and black in all that is stained, a pen's ink included.
        brown_percent, foreign_percent, pink_percent: of the stained tissue, see `stains`.
        hematoxylin_degrees, eosin_degrees: angle between the slide's stain vector and the bundle's.
        stain_problem: why the slide is not, or may not be, stained with H&E; None if it is.
    """

    tissue_mm2: float
    tumor_mm2: float
    focus: float | None
    blurred_percent: float | None
    tissue_fold_percent: float | None
    pen_percent: float
    artefact_tumor_percent: float | None
    stain_red: float | None
    stain_green: float | None
    stain_blue: float | None
    stain_distance: float | None
    saturation: float | None
    saturation_distance: float | None
    blurred: bool
    folded: bool
    pen_marked: bool
    stain_outlier: bool
    stained_mm2: float = 0.0
    ink_percent: float | None = None
    brown_percent: float | None = None
    foreign_percent: float | None = None
    pink_percent: float | None = None
    hematoxylin_degrees: float | None = None
    eosin_degrees: float | None = None
    stain_problem: str | None = None
