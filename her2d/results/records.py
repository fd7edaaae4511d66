"""The records that are written to the database, and those that are read from it."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from her2d.calibration.outcome import Fish, Her2Outcome, Ihc
from her2d.pipeline.scoring import Score
from her2d.pipeline.slide_quality import SlideQuality
from her2d.pipeline.software import Software


class QualityFlag(StrEnum):
    """A problem that a person should check before the result is used.

    `barcode-mismatch` means that the label of the slide shows another barcode than the file states,
    so that the result may be another patient's. `off-scale` means that the scan was enlarged by
    over 10 %, or that its file states a resolution that differs by over 10 % from the one used.
    """

    BLURRED = "blurred"
    FOLDED = "folded"
    PEN_MARKED = "pen-marked"
    STAIN_OUTLIER = "stain-outlier"
    BARCODE_MISMATCH = "barcode-mismatch"
    OFF_SCALE = "off-scale"


@dataclass(frozen=True, slots=True)
class SlideRecord:
    """A slide by its content.

    Attributes:
        barcode_source: where the barcode was read: `description` or `label`.
        label_barcode: the barcode on the label image, None if there is none.
        barcode_mismatch: whether it is another one than the file states.
        width, height: level-0 pixels.
        magnification_source: which statement the magnification was taken from, or `assumed`.
        size, mtime_ns, ctime_ns: as in FileStamp, when the content was hashed; None if unknown.
        first_block: hash of the file's first block; None if unknown.
    """

    content_hash: str
    file_name: str
    path: str
    barcode: str | None
    vendor: str
    width: int
    height: int
    magnification: float
    mpp: float | None
    barcode_source: str | None = None
    label_barcode: str | None = None
    barcode_mismatch: bool = False
    magnification_source: str | None = None
    size: int | None = None
    mtime_ns: int | None = None
    ctime_ns: int | None = None
    first_block: str | None = None


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """The calibration of the bundle that a run used; `content` is its file as TOML."""

    digest: str
    content: str


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """The bundle that a run used; `manifest` is its manifest as JSON."""

    digest: str
    name: str
    version: str
    manifest: str
    calibration: CalibrationRecord | None = None


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run of one bundle on one slide, with its score, its quality and the software.

    Attributes:
        tiles_total, tiles_tissue, tiles_unreadable: tiles of the grid.
        tiles_decided_early: tumour tiles for which not all sub-classifiers were run, because their
            class was certain; None if all were run for every tumour tile.
        unreadable_reason: why the first unreadable tile could not be read, None where all could.
        um_per_px: micrometres to a pixel of the 4x grid.
        scale_remark: why the scan's scale is doubtful, in sentences; None if it is not.
        level0_downsample: level-0 pixels to a pixel of the 4x grid.
        queued_at, started_at, finished_at: UTC, ISO-8601.
        focal_plane: which plane of a z-stack was read, such as "2 of 5"; None where there is one.
        unread_pictures: which pictures of the file were neither read nor named, such as "1 further
            picture of 1200 x 900 was not read"; None where there is none.
        decoding: "JPEG at half size" where tiles were made from blocks that were decoded so; None
            where every pixel was decoded.
    """

    score: Score
    quality: SlideQuality
    tiles_total: int
    tiles_tissue: int
    tiles_unreadable: int
    unreadable_reason: str | None
    grid_columns: int
    grid_rows: int
    um_per_px: float
    level0_downsample: float
    software: Software
    heatmap_path: str | None
    queued_at: str | None
    started_at: str
    finished_at: str
    elapsed_s: float
    focal_plane: str | None = None
    unread_pictures: str | None = None
    decoding: str | None = None
    scale_remark: str | None = None
    tiles_decided_early: int | None = None


@dataclass(frozen=True, slots=True)
class TileTable:
    """The tiles of a run without background, one in each row.

    Attributes:
        row, column: int (T,), place in the grid.
        tile_class: T of `non_tumor`, `weak`, `strong`, `tumor`, `unreadable`.
        tumor_pixels: int (T,).
        p_strong: float32 (T,), the integrator's probability, NaN outside tumour tiles.
        p_folds: float32 (T, 5), likewise. In tiles that were decided early, NaN is also what was
            not computed.
        attention: float32 (T,), the weight of each tumour tile in the call of a slide as a whole,
            NaN outside tumour tiles; None if the method weighs no tiles, or made no call.
    """

    row: NDArray[np.integer]
    column: NDArray[np.integer]
    tile_class: tuple[str, ...]
    tumor_pixels: NDArray[np.integer]
    p_strong: NDArray[np.float32]
    p_folds: NDArray[np.float32]
    attention: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class PictureRecord:
    """The paths of a run's pictures of the slide and its tumour at low resolution.

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
    """The duration of one step of a run, in seconds of wall time."""

    step: str
    seconds: float


class _KnownSlide(BaseModel):
    """The columns that identify a slide."""

    slide_id: int
    file_name: str
    path: str
    barcode: str | None
    content_hash: str


class SlideResult(Score, _KnownSlide):
    """One row of the view `slide_results`."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=True)

    tiles_total: int
    tiles_tissue: int
    tiles_unreadable: int
    unreadable_reason: str | None = None
    tiles_decided_early: int | None = None
    bundle_name: str
    bundle_version: str
    bundle_digest: str
    backend: str
    precision: str
    runtime: str
    runtime_version: str
    scikit_learn_version: str
    software_version: str
    git_commit: str | None
    queued_at: str | None
    started_at: str
    finished_at: str
    elapsed_s: float
    heatmap_path: str | None
    run_id: int
    focal_plane: str | None
    unread_pictures: str | None
    decoding: str | None
    tissue_mm2: float
    tumor_mm2: float
    focus: float | None
    blurred_percent: float | None
    tissue_fold_percent: float | None
    pen_percent: float
    artefact_tumor_percent: float | None
    stain_distance: float | None
    brown_percent: float | None
    foreign_percent: float | None
    pink_percent: float | None
    quality_flags: tuple[QualityFlag, ...]
    barcode_source: str | None
    label_barcode: str | None
    magnification: float
    magnification_source: str | None
    mpp: float | None
    um_per_px: float
    scale_remark: str | None
    calibration: str | None = None
    her2_outcome: Her2Outcome | None = None
    ihc: Ihc | None = None
    fish: Fish | None = None
    ihc_percent: float | None = None

    @property
    def outcome_text(self) -> str | None:
        """HER2 by IHC and FISH, such as "IHC 2+, FISH amplified: positive"; None if not known."""
        if self.ihc is None or self.her2_outcome is None:
            return None
        fish = "" if self.fish is None else f", FISH {self.fish}"
        return f"IHC {self.ihc}{fish}: {self.her2_outcome}"

    @property
    def barcode_remark(self) -> str | None:
        """The sentence about a label that shows another barcode than the file states."""
        if QualityFlag.BARCODE_MISMATCH not in self.quality_flags:
            return None
        return (
            f"The label shows the barcode {self.label_barcode}, and the file states"
            f" {self.barcode}: check whose slide this is."
        )

    @field_validator("quality_flags", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value
