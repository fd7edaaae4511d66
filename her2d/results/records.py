"""What goes into the database and what comes out of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict


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
    """One bundle's result for one slide; percentages, UTC ISO-8601 times, seconds."""

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
        fate: T of `non_tumor`, `weak`, `strong`, `unreadable`.
        tumor_pixels: int (T,).
        p_strong: float32 (T,), the integrator's probability, NaN outside tumour tiles.
        p_folds: float32 (T, 5), likewise.
    """

    row: NDArray[np.integer]
    column: NDArray[np.integer]
    fate: tuple[str, ...]
    tumor_pixels: NDArray[np.integer]
    p_strong: NDArray[np.float32]
    p_folds: NDArray[np.float32]


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
