"""What goes into the database and what comes out of it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator


class QualityFlag(StrEnum):
    """What a person should know of a scan before believing its result."""

    BLURRED = "blurred"
    FOLDED = "folded"
    PEN_MARKED = "pen-marked"
    STAIN_OUTLIER = "stain-outlier"


@dataclass(frozen=True, slots=True)
class SlideRecord:
    """A slide by its content; width and height are level-0 pixels."""

    content_hash: str
    file_name: str
    path: str
    barcode: str | None
    vendor: str
    width: int
    height: int
    magnification: float
    mpp: float | None


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """The models a run used; `digest` names them, `manifest` is their manifest as JSON."""

    digest: str
    name: str
    version: str
    manifest: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One bundle's result for one slide; percentages, UTC ISO-8601 times, seconds.

    `um_per_px` is a pixel of the 4x grid, `level0_downsample` level-0 pixels to one of them.
    """

    her2_status: str
    reason: str | None
    high_expression_percent: float | None
    ci_low: float | None
    ci_high: float | None
    borderline: bool
    tumor_pixels: int
    strong_pixels: int
    tiles_total: int
    tiles_tissue: int
    tiles_tumor: int
    tiles_strong: int
    tiles_unreadable: int
    unreadable_reason: str | None
    grid_columns: int
    grid_rows: int
    um_per_px: float
    level0_downsample: float
    backend: str
    software_version: str
    heatmap_path: str | None
    queued_at: str | None
    started_at: str
    finished_at: str
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class TileTable:
    """The tiles of a run that are not background, one a row.

    Attributes:
        row, column: int (T,), place in the grid.
        tile_class: T of `non_tumor`, `weak`, `strong`, `unreadable`.
        tumor_pixels: int (T,).
        p_strong: float32 (T,), the integrator's probability, NaN outside tumour tiles.
        p_folds: float32 (T, 5), likewise.
    """

    row: NDArray[np.integer]
    column: NDArray[np.integer]
    tile_class: tuple[str, ...]
    tumor_pixels: NDArray[np.integer]
    p_strong: NDArray[np.float32]
    p_folds: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class QualityRecord:
    """How good a scan was, as a run found it; None where there was no tissue to measure.

    Attributes:
        tissue_mm2, tumor_mm2: areas.
        focus: median variance of the Laplacian over tissue, at 4x, of 8-bit grey.
        blurred_percent, fold_percent: of tissue.
        pen_percent: of the slide.
        stain_red, stain_green, stain_blue: mean optical density of tissue.
        saturation: mean HSV saturation of tissue, 0..255.
        stain_distance, saturation_distance: standard deviations from the bundle's reference, None
            without one.
    """

    tissue_mm2: float
    tumor_mm2: float
    focus: float | None
    blurred_percent: float | None
    fold_percent: float | None
    pen_percent: float | None
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


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """The slide and its tumour in small, as files.

    Attributes:
        slide_path: JPEG, the slide padded to whole tiles.
        tumor_path: PNG of the same size, share of tumour pixels 0..255.
        tile_px: pixels of both along a tile's side.
    """

    slide_path: str
    tumor_path: str
    tile_px: int


@dataclass(frozen=True, slots=True)
class StepTiming:
    """Seconds of wall time that one step of a run took."""

    step: str
    seconds: float


class SlideResult(BaseModel):
    """One row of the view `slide_results`."""

    model_config = ConfigDict(frozen=True)

    slide_id: int
    file_name: str
    path: str
    barcode: str | None
    content_hash: str
    her2_status: str
    reason: str | None
    high_expression_percent: float | None
    ci_low: float | None
    ci_high: float | None
    borderline: bool
    tumor_pixels: int
    strong_pixels: int
    tiles_total: int
    tiles_tissue: int
    tiles_tumor: int
    tiles_strong: int
    tiles_unreadable: int
    bundle_name: str
    bundle_version: str
    backend: str
    software_version: str
    queued_at: str | None
    started_at: str
    finished_at: str
    elapsed_s: float
    heatmap_path: str | None
    run_id: int
    tissue_mm2: float | None
    tumor_mm2: float | None
    focus: float | None
    blurred_percent: float | None
    fold_percent: float | None
    pen_percent: float | None
    stain_distance: float | None
    quality_flags: tuple[QualityFlag, ...] | None
    """Empty where nothing is suspected, None where quality was not measured."""

    @field_validator("quality_flags", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value
